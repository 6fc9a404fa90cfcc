"""The main promises over real HTTP: a real server, real connections, a real file."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from afmiddleware.ledger.base import Filter
from tests.integrations.uvicorn.served import PATIENCE, Server, Site, headers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

RECEIPT = re.compile(r'log="([^"]+)", seq=(\d+), leaf=:([^:]+):, size=\d+, root=:[^:]+:, sig=:[^:]+:')


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def all_pay(servers: list[Server], keys: list[str], *, together: bool) -> list[httpx.Response]:
    body = json.dumps({"amount": "10.00", "together": together}).encode()
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
        return await asyncio.gather(
            *(
                client.post(
                    servers[place % len(servers)].base + "/pay",
                    headers=headers(key),
                    content=body,
                )
                for place, key in enumerate(keys)
            ),
        )


async def test_fifty_actors_share_a_cap_of_ten_payments(site: Site) -> None:
    keys = [site.key(f"actor-{number}") for number in range(50)]
    with Server(site) as server:
        answers = await all_pay([server], keys, together=True)
        most = server.get("/health").json()["most"]
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 10 + [403] * 40
    assert {answer.json()["code"] for answer in answers if answer.status_code == 403} == {"spend.exceeded"}
    assert most >= 2
    assert (site.folder / "marks").read_text().count("pay") == 10
    assert site.counted() == site.owed() == 10_000
    report = site.verified()
    assert (report.status, report.open) == ("whole", 0)


async def test_two_servers_on_one_ledger_admit_exactly_the_cap_together(site: Site) -> None:
    keys = [site.key(f"actor-{number}") for number in range(40)]
    with Server(site) as one, Server(site) as two:
        # Some one by one, so that both servers admit; then all at once for what is left.
        first = [answer for _ in range(4) for answer in await all_pay([one, two], keys[:2], together=False)]
        rest = await all_pay([one, two], keys[2:], together=False)
    assert [answer.status_code for answer in first] == [200] * 8
    assert sorted(answer.status_code for answer in rest) == [200] * 2 + [403] * 36
    assert site.counted() == site.owed() == 10_000
    assert site.verified().status == "whole"


async def test_kill_9_under_load_loses_no_acknowledged_receipt(site: Site) -> None:
    site.policy.write_text(site.policy.read_text().replace("100 USD", "100000 USD"))
    keys = [site.key(f"actor-{number}") for number in range(8)]
    server = Server(site)
    acknowledged: list[tuple[str, int, str]] = []
    enough = asyncio.Event()

    async def load(key: str) -> None:
        async with httpx.AsyncClient(base_url=server.base, timeout=PATIENCE) as client:
            while True:
                try:
                    answer = await client.post("/pay", headers=headers(key), content=b'{"amount": "1.00"}')
                except httpx.HTTPError:
                    return
                match = RECEIPT.fullmatch(answer.headers["agent-receipt"])
                assert match is not None
                acknowledged.append((match[1], int(match[2]), base64.b64decode(match[3]).hex()))
                if len(acknowledged) >= 60:
                    enough.set()

    async def kill() -> None:
        await asyncio.wait_for(enough.wait(), PATIENCE)
        server.stop(signal.SIGKILL)

    await asyncio.gather(kill(), *(load(key) for key in keys))
    ledger = site.ledger()
    stored = {one.receipt.seq: one.receipt.leaf.hex() for one in ledger.receipts(Filter())}
    ledger.close()
    assert len(acknowledged) >= 60
    assert [one for one in acknowledged if stored.get(one[1]) != one[2]] == []
    report = site.verified()
    assert report.code == ""
    assert report.status in ("whole", "unanchored")
    assert site.counted() == site.owed() > 0
    # The next server continues where the dead one stopped.
    with Server(site) as successor:
        assert successor.pay(keys[0], "10.00").status_code == 200
    assert site.verified().status == "whole"


async def test_a_stream_passes_chunk_by_chunk(site: Site) -> None:
    key = site.key("reader")
    with Server(site) as server:
        async with (
            httpx.AsyncClient(base_url=server.base, timeout=PATIENCE) as client,
            client.stream("GET", "/stream", headers={"authorization": f"Bearer {key}"}) as answer,
        ):
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"first\n"
            # The second chunk is only made after this request: nothing was held back.
            await client.get("/ran")
            assert [chunk async for chunk in chunks] == [b"second\n"]
    assert [body["settlement"] for body in site.bodies("outcome")] == ["capture"]


def test_a_client_that_leaves_a_stream_leaves_it_in_doubt_and_counted(site: Site) -> None:
    key = site.key("reader")
    with Server(site) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(f"GET /stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        received = b""
        while b"first" not in received:
            received += connection.recv(4096)
        # The server's end waits for what is under way, so the outcome is there after it.
    outcomes = site.bodies("outcome")
    assert [(body["settlement"], body["end"]) for body in outcomes] == [("unknown", "client_gone")]
    assert site.counted() == 100


def test_a_client_that_leaves_mid_body_leaves_nothing(site: Site) -> None:
    key = site.key("payer")
    with Server(site) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            head = f"POST /pay HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            connection.sendall(f'{head}content-length: 400\r\n\r\n{{"amount": "1'.encode())
        assert httpx.get(server.base + "/health").status_code == 200
    assert not (site.folder / "marks").exists()
    assert site.bodies("intent") == []
    assert site.counted() == 0


def test_a_failing_handler_keeps_the_money_counted(site: Site) -> None:
    key = site.key("payer")
    with Server(site) as server:
        answer = httpx.post(
            server.base + "/pay",
            headers=headers(key),
            content=b'{"amount": "7.00", "fail": true}',
        )
    assert answer.status_code == 500
    assert [(body["settlement"], body["captured"]) for body in site.bodies("outcome")] == [("unknown", "700")]
    assert site.counted() == 700


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_what_can_be_read_in_two_ways_never_runs(site: Site, http: str) -> None:
    key = site.key("payer")
    body = b'{"amount": "1.00"}'
    auth = f"authorization: Bearer {key}\r\n".encode()
    plain = b"host: x\r\n" + auth + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    hostile = {
        "encoded newline": b"POST /pay%0A HTTP/1.1\r\n" + plain,
        "encoded slash": b"POST /%2fpay HTTP/1.1\r\n" + plain,
        "double slash": b"POST //pay HTTP/1.1\r\n" + plain,
        "dot segment": b"POST /x/../pay HTTP/1.1\r\n" + plain,
        "encoded dot segment": b"POST /x/%2e%2e/pay HTTP/1.1\r\n" + plain,
        "backslash": b"POST /x%5c..%5cpay HTTP/1.1\r\n" + plain,
        "absolute form": b"POST http://other/pay HTTP/1.1\r\n" + plain,
        "two lengths": b"POST /pay HTTP/1.1\r\n" + plain + b"content-length: 3\r\n",
        "length and chunks": b"POST /pay HTTP/1.1\r\n" + plain + b"transfer-encoding: chunked\r\n",
        "two credentials": b"POST /pay HTTP/1.1\r\n" + plain + auth,
        "two types": b"POST /pay HTTP/1.1\r\n" + plain + b"content-type: text/plain\r\n",
        "method override": b"POST /pay HTTP/1.1\r\n" + plain + b"x-http-method-override: DELETE\r\n",
        "underscored header": b"POST /pay HTTP/1.1\r\n" + plain + b"x_forwarded_for: 1.1.1.1\r\n",
        "lower-case method": b"post /pay HTTP/1.1\r\n" + plain,
        "two hosts": b"POST /pay HTTP/1.1\r\n" + plain + b"host: y\r\n",
    }
    with Server(site, http) as server:
        for name, head in hostile.items():
            if name == "absolute form" and http == "httptools":
                # This parser hands over the path alone, to the fence and to the router alike.
                continue
            answer = server.raw(head + b"connection: close\r\n\r\n" + body)
            status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
            assert status in (0, 400, 404, 405), name
        good = server.raw(b"POST /pay HTTP/1.1\r\n" + plain + b"connection: close\r\n\r\n" + body)
        assert good.startswith(b"HTTP/1.1 200")
    assert (site.folder / "marks").read_text() == "pay 1.00\n"
    assert site.counted() == 100


def test_a_websocket_is_refused_unless_it_is_public(site: Site) -> None:
    with Server(site) as server:
        upgrade = (
            "GET /{} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert server.raw(upgrade.format("closed").encode(), half_close=True).startswith(b"HTTP/1.1 403")
        assert not (site.folder / "marks").exists()
        assert server.raw(upgrade.format("open").encode(), half_close=True).startswith(b"HTTP/1.1 101")
    assert (site.folder / "marks").read_text() == "talk\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("version: 1\nserivce: x\n", "fence.yaml:2:1: unknown key 'serivce'", id="broken"),
        pytest.param(None, "there is no policy file", id="missing"),
        pytest.param(
            "version: 1\nservice: x\nledger: memory\nroutes: [{route: GET /nowhere, public: true}]\n",
            "the application has no endpoint GET /nowhere",
            id="does not fit the application",
        ),
    ],
)
def test_a_policy_that_cannot_be_used_stops_the_start(site: Site, text: str | None, told: str) -> None:
    if text is None:
        site.policy.unlink()
    else:
        site.policy.write_text(text)
    server = Server(site)
    assert server.process.wait(PATIENCE) != 0
    server.stop(signal.SIGTERM)
    assert told in (site.folder / f"server-{server.port}.log").read_text()


def test_the_end_of_a_server_drains_and_anchors(site: Site) -> None:
    key = site.key("payer")
    with Server(site) as server:
        for _ in range(5):
            assert server.pay(key, "1.00").status_code == 200
    ledger = site.ledger()
    head = ledger.head()
    ledger.close()
    anchor = json.loads((site.folder / "anchor.json").read_text())
    assert (anchor["size"], anchor["leaf"]) == (head.size, head.leaf.hex())
    report = site.verified()
    assert (report.status, report.open, report.checked) == ("whole", 0, 10)
