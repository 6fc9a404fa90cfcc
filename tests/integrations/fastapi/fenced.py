"""A fence with nothing but its resolver and its seal, and one request sent through a real application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from afmiddleware_fastapi.resolver import Resolver, Routed, Unrouted
from afmiddleware_fastapi.seal import SealedScope, left_unsealed, sealed_receive

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Seen:
    """What became of one request."""

    def __init__(self) -> None:
        self.target: Routed | Unrouted | None = None
        self.sealed: SealedScope | None = None
        self.status = 0
        self.unsealed = False
        self.ran: list[tuple[object, dict[str, Any], str]] = []


class Fence:
    """Resolves, seals, hands on; `lie` may put another target in the place of the right one."""

    def __init__(self, app: ASGIApp, *, lie: Callable[[Any], Any] | None = None) -> None:
        self.app = app
        self.lie = lie
        self.resolver: Resolver | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.resolver is None:
            self.resolver = Resolver(scope["app"])
        before = dict(scope)
        target = self.resolver.resolve(scope)
        assert dict(scope) == before, "resolving must not change the scope"
        if self.lie is not None:
            target = self.lie(target)
        sealed = SealedScope(scope, target)
        seen: Seen = scope["seen"]
        seen.target, seen.sealed = target, sealed

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and left_unsealed(sealed, message["status"]):
                seen.unsealed = True
            await send(message)

        await self.app(sealed, sealed_receive(sealed, receive), sending)


def scope_of(method: str, path: str, **more: Any) -> dict[str, Any]:
    """An HTTP scope, or with the method WEBSOCKET that of a handshake."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"api.example.com")],
        "scheme": "http",
        "server": ("api.example.com", 80),
    }
    if method == "WEBSOCKET":
        scope["type"] = "websocket"
        del scope["method"]
    return scope | more


async def ask(app: ASGIApp, method: str, path: str, *, body: bytes = b"", **more: Any) -> Seen:
    """Send one request through the application. What a handler raised is raised here."""
    seen = Seen()

    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked > 1:  # the client waits for its answer
            await anyio.sleep_forever()
        if method == "WEBSOCKET":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
        elif message["type"] == "websocket.close":
            seen.status = 403

    with anyio.fail_after(20):
        await app({**scope_of(method, path, **more), "seen": seen}, receive, send)
    return seen


def note(scope: Any, endpoint: object) -> None:
    """A handler says that it ran, and with what."""
    scope["seen"].ran.append((endpoint, dict(scope.get("path_params", {})), scope.get("method", "WEBSOCKET")))
