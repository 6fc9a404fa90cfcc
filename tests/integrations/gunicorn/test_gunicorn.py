"""The fence in Flask under gunicorn: real connections, real threads and processes, a real file."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integrations.gunicorn.served import POLICY, Gunicorn
from tests.integrations.uvicorn.served import PATIENCE, Site, headers

WORKERS = ["sync", "gthread"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, POLICY)


def all_pay(servers: list[str], keys: list[str], *, together: bool) -> list[httpx.Response]:
    body = json.dumps({"amount": "10.00", "together": together}).encode()

    def one(place: int) -> httpx.Response:
        base = servers[place % len(servers)]
        return httpx.post(f"{base}/pay", headers=headers(keys[place]), content=body, timeout=PATIENCE)

    with ThreadPoolExecutor(len(keys)) as pool:
        return list(pool.map(one, range(len(keys))))


def test_fifty_actors_share_a_cap_of_ten_payments(site: Site) -> None:
    keys = [site.key(f"actor-{number}") for number in range(50)]
    with Gunicorn(site) as server:
        answers = all_pay([server.base], keys, together=True)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 40
    assert {answer.json()["code"] for answer in answers if answer.status_code == 403} == {"spend.exceeded"}
    assert (site.folder / "marks").read_text().count("pay") == 10
    assert site.counted() == site.owed() == 10_000
    report = site.verified()
    assert (report.status, report.open) == ("whole", 0)


@pytest.mark.parametrize("worker", WORKERS)
def test_two_processes_admit_exactly_the_cap_together(site: Site, worker: str) -> None:
    keys = [site.key(f"actor-{number}") for number in range(40)]
    with Gunicorn(site, worker, workers=2, threads=20) as server:
        answers = all_pay([server.base], keys, together=False)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 30
    assert site.counted() == site.owed() == 10_000
    assert site.verified().status == "whole"


def test_processes_forked_off_with_an_open_ledger_write_one_log(site: Site) -> None:
    """`--preload` makes the application, and with it the ledger, before the workers are forked."""
    keys = [site.key(f"actor-{number}") for number in range(20)]
    with Gunicorn(site, workers=2, threads=10, preload=True) as server:
        answers = all_pay([server.base], keys, together=False)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 10
    assert len({body["id"] for body in site.bodies("intent")}) == 10
    assert site.counted() == site.owed() == 10_000
    assert site.verified().status == "whole"


@pytest.mark.parametrize("worker", WORKERS)
def test_what_can_be_read_in_two_ways_never_runs(site: Site, worker: str) -> None:
    key = site.key("payer")
    body = b'{"amount": "1.00"}'
    auth = f"authorization: Bearer {key}\r\n".encode()
    types = b"host: x\r\n" + auth + b"content-type: application/json\r\n"
    plain = types + b"content-length: %d\r\n" % len(body)
    chunks = b"%x\r\n%s\r\n" % (len(body), body)
    hostile = {
        "encoded newline": b"POST /pay%0A HTTP/1.1\r\n" + plain,
        "encoded slash": b"POST /%2fpay HTTP/1.1\r\n" + plain,
        "double slash, which Flask strips": b"POST //pay HTTP/1.1\r\n" + plain,
        "dot segment": b"POST /x/../pay HTTP/1.1\r\n" + plain,
        "encoded dot segment": b"POST /x/%2e%2e/pay HTTP/1.1\r\n" + plain,
        "backslash": b"POST /x%5c..%5cpay HTTP/1.1\r\n" + plain,
        "absolute form": b"POST http://other/pay HTTP/1.1\r\n" + plain,
        "a fragment": b"POST /pay#/health HTTP/1.1\r\n" + plain,
        "a fragment in the query": b"POST /pay?x=1#&y=2 HTTP/1.1\r\n" + plain,
        "two lengths": b"POST /pay HTTP/1.1\r\n" + plain + b"content-length: 3\r\n",
        "length and chunks": b"POST /pay HTTP/1.1\r\n" + plain + b"transfer-encoding: chunked\r\n",
        "two credentials": b"POST /pay HTTP/1.1\r\n" + plain + auth,
        "two types": b"POST /pay HTTP/1.1\r\n" + plain + b"content-type: text/plain\r\n",
        "a second type with an underscore": b"POST /pay HTTP/1.1\r\n" + plain + b"content_type: text/plain\r\n",
        "method override": b"POST /pay HTTP/1.1\r\n" + plain + b"x-http-method-override: DELETE\r\n",
        "lower-case method": b"post /pay HTTP/1.1\r\n" + plain,
        "two hosts": b"POST /pay HTTP/1.1\r\n" + plain + b"host: y\r\n",
        "a script name from the client": b"POST /health/pay HTTP/1.1\r\nSCRIPT_NAME: /health\r\n" + plain,
        "a path from the client": b"POST /health HTTP/1.1\r\nPATH-INFO: /pay\r\n" + plain,
        "folded header": b"POST /pay HTTP/1.1\r\n" + plain + b"x: a\r\n b\r\n",
        "compressed": b"POST /pay HTTP/1.1\r\n" + plain + b"content-encoding: gzip\r\n",
    }
    # A header with an underscore is dropped by this server: the request is one without it.
    expected = {"compressed": 415, "a second type with an underscore": 200}
    broken = {
        "a body cut off": (b"POST /pay HTTP/1.1\r\n" + types + b"content-length: 400\r\n\r\n" + body),
        "a last chunk that is missing": b"POST /pay HTTP/1.1\r\n"
        + types
        + b"transfer-encoding: chunked\r\n\r\n"
        + chunks,
        "chunks without a size": b"POST /pay HTTP/1.1\r\n" + types + b"transfer-encoding: chunked\r\n\r\n" + body,
    }
    with Gunicorn(site, worker) as server:
        for name, head in hostile.items():
            answer = server.raw(head + b"connection: close\r\n\r\n" + body)
            assert status_of(answer) == expected.get(name, 400), (name, answer)
        marks = (site.folder / "marks").read_text()
        assert marks == "pay 1.00\n"
        for name, whole in broken.items():
            answer = server.raw(whole, half_close=True)
            assert status_of(answer) in (0, 400), (name, answer)
        assert (site.folder / "marks").read_text() == marks
        good = [
            plain + b"connection: close\r\n\r\n" + body,
            types + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + chunks + b"0\r\n\r\n",
        ]
        for rest in good:
            assert server.raw(b"POST /pay HTTP/1.1\r\n" + rest).startswith(b"HTTP/1.1 200")
    assert (site.folder / "marks").read_text() == "pay 1.00\n" * 3
    assert site.counted() == 300


def test_a_stream_passes_piece_by_piece(site: Site) -> None:
    key = site.key("reader")
    with (
        Gunicorn(site) as server,
        httpx.Client(base_url=server.base, timeout=PATIENCE) as client,
        client.stream("GET", "/stream", headers={"authorization": f"Bearer {key}"}) as answer,
    ):
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first\n"
        # The second piece is only made after this request: nothing was held back.
        httpx.get(f"{server.base}/ran")
        assert b"".join(pieces) == b"second\n" * 100_000
    assert [body["settlement"] for body in site.bodies("outcome")] == ["capture"]


def test_a_client_that_leaves_a_stream_leaves_it_in_doubt_and_counted(site: Site) -> None:
    key = site.key("reader")
    with Gunicorn(site) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(f"GET /stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
            received = b""
            while b"first" not in received:
                received += connection.recv(4096)
        assert httpx.get(f"{server.base}/ran", timeout=PATIENCE).status_code == 200
    outcomes = site.bodies("outcome")
    assert [(body["settlement"], body["end"]) for body in outcomes] == [("unknown", "client_gone")]
    assert site.counted() == 100


def test_a_client_that_leaves_mid_body_leaves_nothing(site: Site) -> None:
    key = site.key("payer")
    with Gunicorn(site) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            head = f"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            connection.sendall(f'{head}content-length: 400\r\n\r\n{{"amount": "1'.encode())
        assert httpx.get(f"{server.base}/health", timeout=PATIENCE).status_code == 200
    assert not (site.folder / "marks").exists()
    assert site.bodies("intent") == []
    assert site.counted() == 0


def test_a_failing_view_keeps_the_money_counted(site: Site) -> None:
    key = site.key("payer")
    with Gunicorn(site) as server:
        body = b'{"amount": "7.00", "fail": true}'
        answer = httpx.post(f"{server.base}/pay", headers=headers(key), content=body, timeout=PATIENCE)
    assert answer.status_code == 500
    assert [(one["settlement"], one["end"]) for one in site.bodies("outcome")] == [("unknown", "error")]
    assert site.counted() == 700


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def test_a_broken_policy_fails_the_start_and_says_why(site: Site) -> None:
    site.policy.write_text("version: 1\nservice: s\nrulez: []\n", encoding="utf-8")
    with Gunicorn(site) as server:
        assert server.process.wait(PATIENCE) != 0
    assert "fence.yaml:3:1: unknown key 'rulez'; did you mean 'rules'?" in server.log.read_text()
    assert not (site.folder / "marks").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preload", [False, True])
def test_every_worker_comes_to_decide_by_a_changed_policy(site: Site, preload: bool) -> None:
    """Nothing is restarted and nothing is told: each process sees the file, one that was forked off too."""
    key = site.key("payer")
    until = time.monotonic() + PATIENCE
    with Gunicorn(site, "sync", workers=2, preload=preload) as server:
        body = json.dumps({"amount": "0.01"}).encode()

        def ask(_place: int) -> tuple[int, str]:
            answer = httpx.post(f"{server.base}/pay", headers=headers(key), content=body, timeout=PATIENCE)
            return answer.status_code, answer.json().get("code", "")

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(ask, range(16))) == {(200, "")}
            site.policy.with_name("new").write_text(POLICY.replace("rules:", "rules:\n  deny: [payments.pay]"), "utf-8")
            site.policy.with_name("new").replace(site.policy)
            denied = 0
            while denied < 5 and time.monotonic() < until:
                seen = set(pool.map(ask, range(16)))
                assert seen <= {(200, ""), (403, "policy.denied")}
                denied = denied + 1 if len(seen) == 1 and (403, "policy.denied") in seen else 0
            assert denied == 5
    changes = [one for one in site.bodies() if one["kind"] == "policy"]
    assert len(changes) == 1
    assert changes[0]["old_policy"] != changes[0]["policy"]
