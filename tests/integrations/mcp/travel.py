"""A real MCP server with tools that cost money, behind a fence, under a real uvicorn in a thread."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import uvicorn
from mcp.server.mcpserver import MCPServer

from afmiddleware.config.load import limits_of, load
from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_fastapi import install

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

POLICY = """
version: 1
service: tools
ledger: memory
identity: {api_keys: {store: ledger}}
routes:
  - route: POST /mcp
    protocol: mcp
    capability: "mcp.{tool}"
    methods: {"resources/read": {capability: mcp.read, resource: "{params.uri}"}}
    tools:
      book_flight:
        amount: {from: arguments.price}
        resource: "flight:{arguments.flight}"
        settle: {from: result.structuredContent.total}
rules:
  deny: [mcp.wipe]
  allow: [{capability: mcp.*, identity: token}]
limits:
  - {name: calls, rate: 20/day, per: actor}
  - {name: daily, spend: 100 USD, window: day, per: actor}
"""


class Site:
    """The fence, what the tools did, and where the server listens."""

    def __init__(self) -> None:
        self.fence = Fence(load(POLICY, "mcp.yaml"))
        self.key, record = new_key("agent", secrets.token_bytes, now=self.fence.clock())
        self.fence.ledger.put_api_key(record)
        self.acts: list[tuple[Any, ...]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def http(self, *, key: bool = True) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {self.key}"} if key else {}
        return httpx2.AsyncClient(headers=headers, timeout=30)

    def bodies(self, kind: str) -> list[Any]:
        return [strict_parse(one.receipt.body) for one in self.fence.ledger.receipts(Filter(kind=kind))]

    def spent(self) -> int:
        limit = next(one for one in limits_of(self.fence.config) if one.name == "daily")
        row = self.fence.ledger.rows(["actor:key:agent"]).get("actor:key:agent")
        return row.cells[limit.cell].total if row is not None and limit.cell in row.cells else 0

    def server(self) -> MCPServer:
        mcp = MCPServer("travel")

        @mcp.tool()
        def book_flight(flight: str, price: float) -> dict[str, float]:
            """Book a flight for at most `price` dollars."""
            self.acts.append(("book_flight", flight, price))
            if flight == "none":
                raise ValueError("no such flight")
            return {"total": price - 1}

        @mcp.tool()
        def search(text: str) -> str:
            """Search."""
            self.acts.append(("search", text))
            return f"found {text}"

        @mcp.tool()
        def wipe() -> str:
            """Wipe everything."""
            self.acts.append(("wipe",))
            return "gone"

        @mcp.resource("note://{name}")
        def note(name: str) -> str:
            """A note."""
            self.acts.append(("note", name))
            return f"note {name}"

        return mcp


@contextmanager
def running(app: Any, listener: socket.socket) -> Iterator[None]:
    """An application under uvicorn, which takes the socket over."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    started = threading.Event()
    original = server.startup

    async def startup(sockets: Any = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def served(*, json_response: bool, stateless: bool) -> Generator[Site]:
    site = Site()
    app = site.server().streamable_http_app(json_response=json_response, stateless_http=stateless)
    install(app, fence=site.fence)
    listener = socket.create_server(("127.0.0.1", 0))
    site.port = listener.getsockname()[1]
    with running(app, listener):
        yield site


def flattened(error: BaseException) -> Iterator[BaseException]:
    """The errors inside an error of a task group."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from flattened(one)
    else:
        yield error
