"""Whatever becomes of the store, no handler runs that is not on record, and what ran stays counted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model.entry import Ping
from afmiddleware.pep.asgi import FenceMiddleware as AsgiFence
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiFence
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.checkpoint import KeySigner
from tests.conformance.wsgi import call, environ_of

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: s
ledger: sqlite:///fence.db
routes:
  - {route: POST /pay, capability: a.pay, amount: {from: body.amount}}
rules: {allow: [a.*]}
limits:
  - {name: cap, spend: 10 USD, window: total, per: global}
"""
BODY = b'{"amount": "1.00", "currency": "USD"}'
HEADERS = [("content-type", "application/json"), ("content-length", str(len(BODY)))]
PIECES = {"at once": (b"paid",), "streaming": (b"pa", b"id")}


class Site:
    """A handler behind both generic middlewares, its ledger, and a signing key that can be away."""

    def __init__(self, folder: Path, pieces: tuple[bytes, ...]) -> None:
        self.database = folder / "fence.db"
        self.pieces = pieces
        self.ran = 0
        self.away = False
        self.during: Callable[[Site], object] = lambda _site: None
        self._key = KeySigner(Ed25519PrivateKey.generate())
        self.public = self._key.public
        self.fence = Fence(load(POLICY), base=folder, signer=self)
        self.spoiled: list[object] = []

    def sign(self, data: bytes) -> bytes:
        if self.away:
            raise ConnectionError("the key service is away")
        return self._key.sign(data)

    def handle(self) -> tuple[bytes, ...]:
        self.ran += 1
        self.during(self)
        return self.pieces

    async def asgi(self, _scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        pieces = self.handle()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["wsgi.input"].read()
        pieces = self.handle()
        start_response("200 OK", [])
        yield from pieces

    async def ask(self, way: str) -> int:
        if way == "wsgi":
            return call(WsgiFence(self.wsgi, fence=self.fence), environ_of("POST", "/pay", HEADERS, BODY))[0]
        transport = httpx.ASGITransport(AsgiFence(self.asgi, fence=self.fence))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
            return (await client.post("/pay", content=BODY, headers=dict(HEADERS))).status_code

    def do(self, statement: str) -> None:
        """Change the database behind the fence's back."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement)

    def counted(self) -> int:
        """Cents that count against the cap."""
        rows = self.fence.ledger.rows(["global"])
        return sum(cell.total for row in rows.values() for cell in row.cells.values())


def replaced(site: Site) -> None:
    copy = site.database.read_bytes()
    site.database.unlink()
    site.database.write_bytes(copy)


def locked(site: Site) -> None:
    holder = sqlite3.connect(site.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    site.spoiled.append(holder)


def away(site: Site) -> None:
    site.away = True


ERRORS: dict[str, Callable[[Site], object]] = {
    "deleted": lambda site: site.database.unlink(),
    "replaced": replaced,
    "locked by another": locked,
    "a table is gone": lambda site: site.do("DROP TABLE hold"),
    "another log": lambda site: site.do("DELETE FROM head"),
    "another key in the log": lambda site: site.do("UPDATE head SET signer = zeroblob(32)"),
    "the key service is away": away,
    "a row that cannot be read": lambda site: site.do("UPDATE counter SET data = x'00'"),
}


@pytest.fixture
def site(tmp_path: Path, pieces: str) -> Iterator[Site]:
    made = Site(tmp_path, PIECES[pieces])
    yield made
    for one in made.spoiled:
        one.close()  # type: ignore[attr-defined]
    made.fence.close()


@pytest.mark.parametrize("way", ["asgi", "wsgi"])
@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("error", ERRORS)
async def test_no_handler_runs_when_its_commit_cannot_be_made(site: Site, error: str, way: str) -> None:
    assert await site.ask(way) == 200
    # The outcome is in the log too, so that it is the next request that meets what is done.
    site.fence.ledger.commit(Ping())
    ERRORS[error](site)
    assert await site.ask(way) == 503
    assert site.ran == 1


@pytest.mark.parametrize("way", ["asgi", "wsgi"])
@pytest.mark.parametrize("pieces", PIECES)
async def test_an_outcome_that_cannot_be_written_stays_counted_and_nothing_else_runs(site: Site, way: str) -> None:
    site.during = away
    assert await site.ask(way) == 200
    assert [await site.ask(way) for _ in range(2)] == [503, 503]
    assert (site.ran, site.counted()) == (1, 100)
    site.away, site.during = False, lambda _site: None
    assert await site.ask(way) == 200
    assert (site.ran, site.counted()) == (2, 200)
    assert site.fence.receipts.verify().code == ""


POINTS = ["the body", "the commit", "the handler", "the start", "the first piece", "the last piece"]


async def cancelled() -> None:
    """What an await is that a server cancels."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


class Leaving:
    """A client that leaves while the application awaits one thing."""

    def __init__(self, site: Site, point: str) -> None:
        self.site = site
        self.point = point
        self.sent = 0

    async def receive(self) -> dict[str, Any]:
        if self.point == "the body":
            await cancelled()
        return {"type": "http.request", "body": BODY}

    async def send(self, _message: Any) -> None:
        self.sent += 1
        if self.point == {1: "the start", 2: "the first piece", 4: "the last piece"}.get(self.sent):
            await cancelled()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if self.point == "the handler":
            await cancelled()
        await self.site.asgi(scope, receive, send)


@pytest.mark.parametrize("pieces", ["streaming"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_request_cancelled_at_any_await_has_one_outcome_when_it_was_admitted(site: Site, point: str) -> None:
    assert await site.ask("asgi") == 200
    if point == "the commit":
        locked(site)
    client = Leaving(site, point)
    headers = [(name.encode(), value.encode()) for name, value in HEADERS]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/pay"}
    scope |= {"raw_path": b"/pay", "query_string": b"", "root_path": "", "headers": headers}  # type: ignore[dict-item]
    scope |= {"client": ("203.0.113.9", 4000), "server": ("api.example.com", 80)}  # type: ignore[dict-item]
    app = AsgiFence(client.application, fence=site.fence)
    task = asyncio.get_running_loop().create_task(app(scope, client.receive, client.send))
    if point == "the commit":
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()
        site.spoiled.pop().close()  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError):
        await task
    site.fence.close()
    with closing(SqliteReader(Location.of(site.database))) as reader:
        assert ReceiptLog(reader).verify().code == ""
        intents = [one.receipt.leaf.hex() for one in reader.receipts(Filter(kind="intent"))]
        ends = [strict_parse(one.receipt.body)["ref"] for one in reader.receipts(Filter(kind="outcome"))]
    assert sorted(ends) == sorted(intents)
    # Whoever leaves while the commit waits is dropped from it, or given back when it was made already.
    assert len(intents) in {"the body": (1,), "the commit": (1, 2)}.get(point, (2,))
