"""The fence as pure ASGI middleware. What a framework's adapter adds is its router (`Router`).

A response streams through untouched but for its headers; the request body is held back only when the decision read it,
and the handler then receives exactly those bytes.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from afmiddleware.config.ledger_url import MEMORY
from afmiddleware.current import enter, leave
from afmiddleware.drivers import arun
from afmiddleware.errors import AFError, ClientGoneError, ConfigError, MappingError, SealBrokenError, StalePolicyError
from afmiddleware.fence import Fence
from afmiddleware.flow import admit
from afmiddleware.identity.app_user import AppUser, signed_in
from afmiddleware.ledger.workers import one_process_only
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.model.outcome import End
from afmiddleware.pep.asgi_endpoints import served
from afmiddleware.pep.asgi_exchange import Exchange
from afmiddleware.pep.asgi_table import TableRouter
from afmiddleware.pep.passage import cross_origin, outdated, refused_by, unsealed, unusable
from afmiddleware.pep.respond import websocket_close_reason
from afmiddleware.performing import AsyncFenceIo, Begun
from afmiddleware.plan import Admission, Pass, Refused

if TYPE_CHECKING:
    import os

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from afmiddleware.pep.closed import Closed
    from afmiddleware.plan import Plan

_log = logging.getLogger("afmiddleware")


class Sealed(Protocol):
    """A scope that refuses, while the router fills it in, to reach anything but what was judged."""

    fired: bool
    """Whether the router has reached the judged endpoint."""
    invalid: bool
    """Whether the framework refused the request's values there by itself, so that the handler was not entered."""


class Routing(Protocol):
    """One request on its way through a framework's router."""

    plan: Plan
    """The policy that decides it: the one in force when the router was looked at."""

    def resolve(self) -> Target | None:
        """The endpoint that will run, or `None` when the framework answers by itself."""
        ...

    def seal(self) -> Any:
        """The scope to hand inward once `resolve` was asked; it is also a `Sealed`."""
        ...

    def unsealed(self, sealed: Any, status: int) -> bool:
        """Whether an answer with `status` comes neither from the judged endpoint nor from the router itself."""
        ...


class Router(Protocol):
    """What the fence asks of a framework."""

    watched: bool
    """Whether unknown layers, which the policy names, stand between the fence and the handlers."""

    def begin(self, scope: Scope, /) -> Routing:
        """Look at one request; nothing is resolved yet."""
        ...


class FenceMiddleware:
    """Decide every request before it reaches `app`, any ASGI application: `FenceMiddleware(app, policy="fence.yaml")`.

    Raises `ConfigError` with every problem of the policy; added with Starlette's `add_middleware`, which makes it when
    the server has begun, it fails the server's start instead. Here the routes are those of the policy's own table
    (`pep.table`), with its weaker promise; a framework's package asks the framework's router instead. A `fence` that
    exists already may be given in place of `policy`.
    """

    def __init__(
        self,
        app: ASGIApp,
        policy: str | os.PathLike[str] | None = None,
        *,
        fence: Fence | None = None,
    ) -> None:
        self.app = app
        self._closed: Closed | None = None
        self._router: Router | None = None
        self._watched = False
        try:
            self.fence = fence if fence is not None else Fence.from_file(policy)
        except AFError as error:
            if not _in_starlette(app):
                raise
            from afmiddleware.pep.closed import Closed  # noqa: PLC0415 (it asks this module for the facts)

            self._closed = Closed(error)

    def make_router(self, scope: Scope) -> Router:
        """Find the application's router and audit it. Raises `ConfigError` when the application cannot be fenced."""
        del scope
        return TableRouter(self.fence)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. Raises `AFError` for a kind of connection the fence does not know."""
        kind = scope["type"]
        if self._closed is not None:
            await self._closed(scope, receive, send)
        elif kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            msg = f"the fence lets no {kind!r} connection pass: it does not know the kind"
            raise AFError(msg)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        fence, facts = self.fence, facts_of(scope)
        # What is judged is what is handed on: a server may add a chunked body's trailers to its own list later.
        scope = {**scope, "headers": [*facts.headers]}
        io = _Io(fence, receive, facts)
        known = partial(_known, scope) if fence.plan.from_app is not None else None
        if facts.path.startswith(fence.own_paths) and await served(fence, facts, io, send, known):
            return
        try:
            router = self._router or self._start(scope)
            routing, passage = await self._decided(router, scope, io)
        except ConfigError as error:
            unfit = unusable(fence, facts, error)
            await _answer(send, refused_by(fence, facts, unfit))
            return
        except ClientGoneError:
            return
        if isinstance(passage, Refused):
            await _answer(send, refused_by(fence, facts, passage))
        elif routing.plan.observe:
            await self._observed(passage, scope, io, send)
        elif isinstance(passage, Pass):
            await self._pass(passage, routing, scope, io, send)
        else:
            await self._admitted(passage, routing, scope, io, send)

    async def _decided(self, router: Router, scope: Scope, io: _Io) -> tuple[Routing, Pass | Refused | Admission]:
        """Decide a request by the policy in force; again from the start when the ledger knows of another."""
        fence, facts = self.fence, io.facts
        while True:
            # One policy for the whole request, whatever is loaded meanwhile.
            routing = router.begin(scope)
            plan = routing.plan
            known = partial(_known, scope) if plan.from_app is not None and scope["type"] == "http" else None
            try:
                flow = admit(plan, facts, routing.resolve, fence.clock(), fence.new_id, known)
                return routing, await arun(flow, io)
            except StalePolicyError as error:
                if not await fence.arenew(error):
                    return routing, outdated(fence, facts)
            io.again()

    async def _pass(self, passage: Pass, routing: Routing, scope: Scope, io: _Io, send: Send) -> None:
        """Let a public endpoint, or the framework's own answer, through; anything else breaks the seal."""
        sealed = routing.seal()
        outward = _Guarded(routing, sealed, send) if self._watched else None
        receive = io.receive if passage.body is None else io.sealed_receive(sealed)
        try:
            await self.app(sealed, receive, send if outward is None else outward.send)
        except SealBrokenError as error:
            await self._unsealed(scope, send, error)

    async def _admitted(self, admission: Admission, routing: Routing, scope: Scope, io: _Io, send: Send) -> None:
        sealed = routing.seal()
        exchange = Exchange(self.fence, admission, send, cross_origin=cross_origin(io.facts), sealed=sealed)
        outward: Send = _Guarded(routing, sealed, exchange.send).send if self._watched else exchange.send
        outer = enter(exchange.action)
        try:
            await self.app(sealed, io.sealed_receive(sealed), outward)
        except SealBrokenError as error:
            # Before the seal has fired the handler was not entered; a layer that answered without it may have been.
            exchange.finish(End.ERROR if error.entered or sealed.fired else End.NOT_REACHED)
            if not exchange.status:
                await self._unsealed(scope, send, error)
            else:
                raise
        except asyncio.CancelledError:
            exchange.finish(End.CLIENT_GONE)
            raise
        except BaseException:
            exchange.finish(End.ERROR)
            raise
        else:
            # The last byte was not sent, and nobody raised: the client has left a stream.
            exchange.finish(End.CLIENT_GONE)
        finally:
            leave(outer)

    async def _observed(self, passage: Pass | Admission, scope: Scope, io: _Io, send: Send) -> None:
        """Nothing blocks: no seal, and the outcome of what was recorded is recorded."""
        if isinstance(passage, Pass):
            await self.app(scope, io.replay, send)
            return
        exchange = Exchange(self.fence, passage, send, cross_origin=cross_origin(io.facts))
        outer = enter(exchange.action)
        try:
            await self.app(scope, io.replay, exchange.send)
        except BaseException as error:
            exchange.finish(End.CLIENT_GONE if isinstance(error, asyncio.CancelledError) else End.ERROR)
            raise
        finally:
            leave(outer)
        exchange.finish(End.CLIENT_GONE)

    async def _unsealed(self, scope: Scope, send: Send, error: SealBrokenError) -> None:
        facts = facts_of(scope)
        passage = unsealed(self.fence, facts, error)
        await _answer(send, refused_by(self.fence, facts, passage))

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only public WebSocket endpoints are reached: one judged handshake would say nothing about its messages."""
        fence, facts = self.fence, facts_of(scope, method="WEBSOCKET")
        try:
            router = self._router or self._start(scope)
            routing, passage = await self._decided(router, scope, _Io(fence, receive, facts))
        except ConfigError as error:
            _log.critical("the application cannot be fenced, so nothing runs: %s", error)
            await send({"type": "websocket.close", "code": 1011, "reason": "policy.unavailable"})
            return
        if isinstance(passage, Refused):
            reason = websocket_close_reason(passage.verdict)
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        elif routing.plan.observe:
            await self.app(scope, receive, send)
        elif isinstance(passage, Pass):
            try:
                await self.app(routing.seal(), receive, send)
            except SealBrokenError as error:
                _log.error("request.unsealed: %s", error)
                await send({"type": "websocket.close", "code": 1011, "reason": "request.unsealed"})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Audit the application before it starts, and close the ledger after it has stopped."""
        first = await receive()
        try:
            self._start(scope)
        except AFError as error:
            _log.critical("the application cannot be fenced: %s", error)
            await send({"type": "lifespan.startup.failed", "message": f"afmiddleware: {error}"})
            # As Starlette's own does: its test client would go on, and wait for an end that never comes.
            raise
        pending = [first]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        async def outward(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.to_thread(self.fence.close)
            await send(message)

        await self.app(scope, replay, outward)

    def _start(self, scope: Scope) -> Router:
        if self.fence.config.ledger in MEMORY:
            # It may have been made before the server has forked.
            one_process_only()
        router = self._router = self.make_router(scope)
        self._watched = router.watched
        return router


def facts_of(scope: Scope, method: str = "") -> HttpFacts:
    """The head of a request as an ASGI server hands it over."""
    client = scope.get("client")
    return HttpFacts(
        method=method or scope["method"],
        path=scope["path"],
        raw_path=scope.get("raw_path"),
        query=scope.get("query_string", b""),
        headers=tuple(scope["headers"]),
        scheme=scope.get("scheme", "http"),
        peer=client[0] if client else "",
    )


class _Io(AsyncFenceIo):
    """What the spine can have done while it decides a request, and the body for the handler afterwards."""

    __slots__ = ("_begun", "_chunks", "_complete", "facts", "receive")

    def __init__(self, fence: Fence, receive: Receive, facts: HttpFacts) -> None:
        super().__init__(fence)
        self._begun = Begun(fence)
        self.receive = receive
        self._chunks: list[Message] = []
        self._complete = False
        self.facts = facts

    def again(self) -> None:
        super().again()
        self._begun = Begun(self._fence)

    async def read_body(self, cap: int) -> bytes:
        parts: list[bytes] = [chunk.get("body", b"") for chunk in self._chunks]
        size = sum(map(len, parts))
        while not self._complete and size <= cap:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientGoneError
            self._chunks.append(message)
            part = message.get("body", b"")
            size += len(part)
            parts.append(part)
            self._complete = not message.get("more_body", False)
        if size > cap:
            code, detail = "request.too_large", f"The request body is larger than {cap} bytes."
            raise MappingError(code, detail)
        self._begun.check()
        body = b"".join(parts)
        self._chunks = [{"type": "http.request", "body": body, "more_body": False}]
        return body

    async def replay(self) -> Message:
        """What was read, then what was not."""
        return self._chunks.pop(0) if self._chunks else await self.receive()

    def sealed_receive(self, sealed: Sealed) -> Receive:
        """`replay` for whom the seal has let in; a layer that asks before gets no body."""

        async def receive() -> Message:
            if not sealed.fired:
                msg = "a layer inside the fence reads the request body before the judged endpoint is reached"
                raise SealBrokenError(msg)
            return self._chunks.pop(0) if self._chunks else await self.receive()

        return receive


class _Guarded:
    """Refuses an answer that comes neither from the judged endpoint nor from the router itself."""

    __slots__ = ("_routing", "_sealed", "_send")

    def __init__(self, routing: Routing, sealed: Any, send: Send) -> None:
        self._routing = routing
        self._sealed = sealed
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._routing.unsealed(self._sealed, message["status"]):
            msg = "a layer inside the fence answered although the judged endpoint was not reached through the router"
            raise SealBrokenError(msg, entered=True)
        await self._send(message)


def _in_starlette(app: Any) -> bool:
    """Whether a middleware around `app` is made by Starlette, inside its own stack: the innermost layer tells."""
    while app is not None:
        kind = type(app)
        if (kind.__module__, kind.__qualname__) == ("starlette.middleware.exceptions", "ExceptionMiddleware"):
            return True
        app = getattr(app, "app", None)
    return False


def _known(scope: Scope) -> AppUser | None:
    """Whom Starlette's authentication layer has signed in; it has to stand outside the fence."""
    return signed_in(scope.get("user"), getattr(scope.get("auth"), "scopes", ()))


async def _answer(send: Send, answer: tuple[int, list[tuple[bytes, bytes]], bytes]) -> None:
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
