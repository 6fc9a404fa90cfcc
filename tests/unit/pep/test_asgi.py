"""Any ASGI application behind the policy's own table of routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.errors import AFError, ConfigError
from afmiddleware.fence import Fence
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware.testing import FrozenClock

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: s
ledger: memory
routes:
  - {route: GET /health, public: true}
  - {route: "GET /x/{id}", capability: x.read, resource: "x:{path.id}"}
  - {route: POST /pay, capability: pay.now, amount: {from: body.amount}}
  - {route: GET /api/both, capability: both.outer}
  - {route: GET /both, capability: both.inner}
  - {route: WEBSOCKET /ws, public: true}
rules: {allow: [x.*, pay.*, both.*]}
"""


class App:
    """Notes what it acted on."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, bytes, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        elif scope["type"] == "websocket":
            self.ran.append(("WEBSOCKET", scope["path"], b"", ""))
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
        else:
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            try:
                event = current_action().event
                resource = (event.resource or "") if event is not None else ""
            except AFError:
                resource = "public"
            self.ran.append((scope["method"], scope["path"], body, resource))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def fenced(text: str = POLICY) -> tuple[App, FenceMiddleware]:
    app = App()
    return app, FenceMiddleware(app, fence=Fence(load(text), clock=FrozenClock()))


async def ask(fence: Any, method: str, path: str, *, body: bytes = b"", **more: Any) -> Any:
    """The status, or the code of the closing of a WebSocket."""
    sent: list[Any] = []
    headers = [(b"host", b"h")]
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "scheme": "http",
    }  # fmt: skip
    pending = [{"type": "http.request", "body": body, "more_body": False}]
    if method == "WEBSOCKET":
        scope["type"] = "websocket"
        del scope["method"]
        pending = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return pending.pop(0) if pending else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await fence(scope | more, receive, send)
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    ("method", "path", "status", "ran"),
    [
        ("GET", "/health", 200, [("GET", "/health", b"", "public")]),
        ("HEAD", "/health", 200, [("HEAD", "/health", b"", "public")]),
        ("GET", "/x/7", 200, [("GET", "/x/7", b"", "x:7")]),
        ("HEAD", "/x/7", 200, [("HEAD", "/x/7", b"", "x:7")]),
        ("GET", "/x/7/", 403, []),
        ("GET", "/health/", 403, []),
        ("POST", "/health", 403, []),
        ("OPTIONS", "/health", 403, []),
        ("GET", "/nothing", 403, []),
        ("GET", "//health", 400, []),
        ("GET", "/x/../health", 400, []),
        ("GET", "/health\n", 400, []),
        ("WEBSOCKET", "/ws", "websocket.accept", [("WEBSOCKET", "/ws", b"", "")]),
        ("WEBSOCKET", "/health", "websocket.close", []),
        ("WEBSOCKET", "/other", "websocket.close", []),
        ("GET", "/ws", 403, []),
    ],
)
async def test_what_the_table_lists_runs_and_nothing_else(method: str, path: str, status: Any, ran: Any) -> None:
    app, fence = fenced()
    assert await ask(fence, method, path) == status
    assert app.ran == ran


async def test_the_application_receives_the_bytes_that_were_judged() -> None:
    app, fence = fenced()
    assert await ask(fence, "POST", "/pay", body=b'{"amount": 5}') == 200
    assert app.ran == [("POST", "/pay", b'{"amount": 5}', "")]
    assert await ask(fence, "POST", "/pay", body=b'{"amount": -5}') == 422
    assert len(app.ran) == 1


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("", "/x/7", 200),
        ("/api", "/api/x/7", 200),
        ("/api/", "/api/x/7", 200),
        ("/api", "/x/7", 200),
        ("/api", "/api/api/x/7", 403),
        ("/api", "/apix/7", 403),
        ("/api", "/api", 403),
        ("/api", "/api/nothing", 403),
        # Listed with the prefix and without it: which one the application means cannot be told.
        ("/api", "/api/both", 403),
        ("", "/api/both", 200),
    ],
)
async def test_root_path(root: str, path: str, status: int) -> None:
    app, fence = fenced()
    assert await ask(fence, "GET", path, root_path=root) == status
    assert len(app.ran) == (status == 200)


async def test_a_kind_of_connection_nobody_knows_is_refused() -> None:
    _, fence = fenced()
    with pytest.raises(AFError, match="'webtransport'"):
        await ask(fence, "GET", "/health", type="webtransport")


async def test_in_observe_mode_what_is_not_listed_passes() -> None:
    app, fence = fenced(POLICY + "mode: observe\n")
    assert await ask(fence, "GET", "/nothing") == 200
    assert len(app.ran) == 1


async def test_a_changed_policy_is_a_changed_table() -> None:
    _, fence = fenced()
    assert await ask(fence, "GET", "/new") == 403
    newer = Fence(load(POLICY.replace("GET /health", "GET /new"))).plan
    fence.fence.plan = replace(fence.fence.plan, bindings=newer.bindings)
    assert await ask(fence, "GET", "/new") == 200
    assert await ask(fence, "GET", "/health") == 403


async def live(app: Any) -> list[str]:
    sent: list[Any] = []
    pending = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return pending.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return [f"{one['type']}: {one.get('message', '')}".rstrip(": ") for one in sent]


async def failed(app: Any) -> str:
    """What is said as the start fails. It also raises, as Starlette's own does: its test client learns it by that."""
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with pytest.raises(ConfigError) as ended:
        await app({"type": "lifespan"}, receive, send)
    (one,) = told
    assert str(ended.value) in one["message"]
    return f"{one['type']}: {one['message']}"


async def test_it_starts_and_stops_with_its_application() -> None:
    _, fence = fenced()
    assert await live(fence) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("inner", [(), (CORSMiddleware,)])
async def test_added_to_starlette_a_wrong_policy_fails_the_start(tmp_path: Path, inner: tuple[Any, ...]) -> None:
    (tmp_path / "fence.yaml").write_text("version: 1\nnonsense: 1\n", encoding="utf-8")
    app = Starlette()
    for layer in inner:
        app.add_middleware(layer)
    app.add_middleware(FenceMiddleware, policy=tmp_path / "fence.yaml")
    said = await failed(app)
    assert said.startswith("lifespan.startup.failed: afmiddleware: ")
    assert "nonsense" in said
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.get("/anything")
    assert (answer.status_code, answer.json()["code"]) == (503, "policy.unavailable")
    with pytest.raises(ConfigError, match="nonsense"):
        FenceMiddleware(CORSMiddleware(Starlette()), policy=tmp_path / "fence.yaml")


async def test_a_policy_that_is_no_table_stops_the_start_and_every_request() -> None:
    app, fence = fenced(POLICY.replace("GET /both", "GET //host/both"))
    said = await failed(fence)
    assert said.startswith("lifespan.startup.failed: afmiddleware: fence.yaml:10: route GET //host/both names a host")
    assert await ask(fence, "GET", "/health") == 503
    assert await ask(fence, "WEBSOCKET", "/ws") == "websocket.close"
    assert app.ran == []


@pytest.fixture
def closing() -> Any:
    made: list[FenceMiddleware] = []
    yield made.append
    for one in made:
        one.fence.close()


async def test_from_a_policy_file(tmp_path: Path, closing: Callable[[FenceMiddleware], None]) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY, encoding="utf-8")
    app = App()
    fence = FenceMiddleware(app, policy=tmp_path / "fence.yaml")
    closing(fence)
    assert await ask(fence, "GET", "/x/7") == 200
    with pytest.raises(ConfigError, match="there is no policy file"):
        FenceMiddleware(app, policy=tmp_path / "none.yaml")


async def test_no_more_is_read_of_a_body_than_its_cap() -> None:
    app = App()
    config = load(POLICY.replace("{from: body.amount}", "{from: body.amount}, max_body: 100"))
    fence = Fence(config, clock=FrozenClock())
    asked = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 30, "more_body": asked < 50}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"a"), (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/pay",
        "raw_path": b"/pay",
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.9", 1),
    }
    await FenceMiddleware(app, fence=fence)(scope, receive, send)
    assert (sent[0]["status"], asked, app.ran) == (413, 4, [])
    fence.close()
