"""What else reaches a real server: hostile framing, a start that cannot be, an end with work under way."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integrations.uvicorn.served import PATIENCE, Server, Site, headers

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"amount": "1.00"}'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_framing_that_servers_read_differently_never_runs(site: Site, http: str) -> None:
    key = site.key("payer")
    length = b"content-length: %d\r\n" % len(BODY)
    auth = f"authorization: Bearer {key}\r\n".encode()
    plain = b"host: x\r\n" + auth + b"content-type: application/json\r\n"
    hostile = {
        "a fragment": b"POST /pay?x=1#&y HTTP/1.1\r\n" + plain + length,
        "a target without a slash": b"POST pay HTTP/1.1\r\n" + plain + length,
        "a NUL in the path": b"POST /pay%00 HTTP/1.1\r\n" + plain + length,
        "bytes beyond ASCII": b"POST /p\xc3\xa1y HTTP/1.1\r\n" + plain + length,
        "a folded credential": b"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization: Bearer\r\n "
        + key.encode()
        + b"x\r\n"
        + length,
        "a folded second length": b"POST /pay HTTP/1.1\r\n" + plain + b"content-length: 3\r\n 18\r\n",
        "a signed length": b"POST /pay HTTP/1.1\r\n" + plain + b"content-length: +18\r\n",
        "lengths in one line": b"POST /pay HTTP/1.1\r\n" + plain + b"content-length: 18, 3\r\n",
        "an unknown coding": b"POST /pay HTTP/1.1\r\n" + plain + b"transfer-encoding: identity\r\n",
        "a compressed body": b"POST /pay HTTP/1.1\r\n" + plain + length + b"content-encoding: gzip\r\n",
        "a space before the colon": b"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization : Bearer k\r\n" + length,
        "a script name": b"POST /pay HTTP/1.1\r\n" + plain + length + b"script-name: /health\r\n",
        "a host with a path": b"POST /pay HTTP/1.1\r\n" + plain.replace(b"host: x", b"host: x/health?") + length,
    }
    with Server(site, http) as server:
        for name, head in hostile.items():
            # The parser that cuts a fragment off hands the same query to the fence and to the handler.
            if (name, http) == ("a fragment", "httptools"):
                continue
            answer = server.raw(head + b"connection: close\r\n\r\n" + BODY, half_close=True)
            status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
            assert status in (0, 400, 401, 404, 405, 415), (name, answer[:200])
            assert b"Traceback" not in answer
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        head = b"POST /pay HTTP/1.1\r\n" + plain + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        assert server.raw(head + chunks).startswith(b"HTTP/1.1 200")
    assert (site.folder / "marks").read_text() == "pay 1.00\n"
    assert site.counted() == site.owed() == 100


def test_requests_in_one_connection_are_judged_one_by_one(site: Site) -> None:
    key = site.key("payer")
    head = (
        f"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n".encode()
    )
    small = head + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    over = b'{"amount": "100.00"}'
    large = head + b"content-length: %d\r\n\r\n" % len(over) + over
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with Server(site) as server:
        answers = server.raw(small + large + small + last)
    lines = [line for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    lines += [part[part.index(b"HTTP/1.1 ") :] for part in answers.split(b"\r\n") if b"HTTP/1.1 " in part[1:]]
    assert sorted(int(line.split(b" ")[1]) for line in lines) == [200, 200, 200, 403]
    assert site.counted() == site.owed() == 200


@pytest.mark.parametrize(
    "kind", ["missing", "a folder", "not text", "empty", "not YAML", "unknown names", "a bad key file"]
)
def test_a_server_does_not_start_on_a_policy_it_cannot_use(site: Site, kind: str) -> None:
    text = site.policy.read_bytes()
    site.policy.unlink()
    match kind:
        case "a folder":
            site.policy.mkdir()
        case "not text":
            site.policy.write_bytes(b"\xff\xfe\x00")
        case "empty":
            site.policy.write_bytes(b"")
        case "not YAML":
            site.policy.write_bytes(b"version: [1\nservice: x")
        case "unknown names":
            site.policy.write_bytes(text.replace(b"spend:", b"spned:").replace(b"allow:", b"alow:"))
        case "a bad key file":
            (site.folder / "short.key").write_bytes(b"short")
            site.policy.write_bytes(text + b"  mac_key: {file: short.key}\n")
        case _:
            assert kind == "missing"
    server = Server(site)
    assert server.process.wait(PATIENCE) not in (0, -signal.SIGKILL)
    server.stop(signal.SIGTERM)
    told = (site.folder / f"server-{server.port}.log").read_text()
    # The last words are what is wrong, and with which file.
    said = told[told.rindex("afmiddleware.errors.") :]
    assert ("short.key" if kind == "a bad key file" else "fence.yaml") in said
    if kind == "unknown names":
        # All problems at once, each with its place and what was meant.
        assert "did you mean 'spend'" in told
        assert "did you mean 'allow'" in told
    assert kind == "a bad key file" or not (site.folder / "fence.db").exists()


def test_a_request_under_way_ends_before_the_server_does(site: Site) -> None:
    keys = [site.key("first"), site.key("second")]
    with Server(site) as server, ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.base) as client:
        # The first payment waits inside the handler for a second one.
        waiting = pool.submit(
            httpx.post,
            server.base + "/pay",
            headers=headers(keys[0]),
            content=b'{"amount": "2.00", "together": true}',
            timeout=PATIENCE,
        )
        entered(server, site)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as second:
            body = b'{"amount": "3.00", "together": true}'
            head = f"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {keys[1]}\r\n"
            second.sendall(
                f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:9]
            )
            assert client.get("/health").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            second.sendall(body[9:])
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
        assert waiting.result(PATIENCE).status_code == 200
        assert server.process.wait(PATIENCE) == -signal.SIGTERM
    assert site.counted() == site.owed() == 500
    report = site.verified()
    assert (report.status, report.open, report.checked) == ("whole", 0, 4)


def test_kill_9_keeps_what_was_under_way_held_and_counted(site: Site) -> None:
    keys = [site.key("first"), site.key("second")]
    server = Server(site)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            httpx.post,
            server.base + "/pay",
            headers=headers(keys[0]),
            content=b'{"amount": "90.00", "together": true}',
            timeout=PATIENCE,
        )
        entered(server, site)
        server.stop(signal.SIGKILL)
        assert isinstance(waiting.exception(PATIENCE), httpx.HTTPError)
    assert site.counted() == site.owed() == 9000
    report = site.verified()
    assert (report.code, report.open, report.checked) == ("", 1, 1)
    with Server(site) as successor:
        assert successor.pay(keys[1], "10.01").status_code == 403
        assert successor.pay(keys[1], "10.00").status_code == 200


def entered(server: Server, site: Site) -> None:
    """Ask the server until its handler has left a mark: each question is a round trip through its loop."""
    with httpx.Client(base_url=server.base, timeout=PATIENCE) as client:
        for _ in range(20_000):
            if (site.folder / "marks").exists():
                return
            client.get("/health")
    pytest.fail("the handler was never entered")
