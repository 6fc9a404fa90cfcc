"""Nothing runs but what was judged: lies, rewriting layers and copying layers are refused before the handler."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Host, Mount, Route, Router

from afmiddleware.errors import SealBrokenError
from afmiddleware_fastapi.resolver import Resolver, Routed, Unrouted
from afmiddleware_fastapi.seal import SealedScope, left_unsealed
from tests.integrations.fastapi.fenced import Fence, ask, note, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


class Paying(HTTPEndpoint):
    async def post(self, request: Request) -> Response:
        note(request.scope, "class")
        return PlainTextResponse("paid")


async def bare(request: Request) -> Response:
    note(request.scope, "bare")
    return PlainTextResponse("bare")


def shop(*inner: Middleware, **fence: Any) -> FastAPI:
    """An application whose every handler takes notes, with layers between the fence and the router."""
    app = FastAPI(middleware=[Middleware(Fence, **fence), *inner])

    @app.get("/ping")
    async def ping(request: Request) -> str:
        note(request.scope, "ping")
        return "pong"

    @app.api_route("/pay/{account}", methods=["POST", "DELETE"])
    async def pay(account: str, request: Request) -> str:
        note(request.scope, "pay")
        return (await request.body()).decode()

    included = APIRouter()

    @included.post("/included/{x}")
    async def one(x: str, request: Request) -> str:
        note(request.scope, "one")
        return x

    app.include_router(included, prefix="/v1")
    app.router.routes.append(Route("/class", Paying))
    app.add_route("/bare", bare, methods=["POST"])
    admin = FastAPI()
    admin.add_route("/pay", bare, methods=["POST"])
    app.mount("/admin", admin)
    app.mount("/files", PlainTextResponse("file"))
    app.router.routes.append(Host("partner.example", Router([Mount("/deep", routes=[Route("/a", bare)])])))
    return app


class Rewriter:
    """A layer that changes the request it was handed before the router sees it."""

    def __init__(self, app: Any, change: Callable[[Any], Any]) -> None:
        self.app = app
        self.change = change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        changed = self.change(scope)
        await self.app(scope if changed is None else changed, receive, send)


PLACES = [
    ("GET", "/ping"),
    ("POST", "/pay/7"),
    ("POST", "/v1/included/7"),
    ("POST", "/class"),
    ("POST", "/bare"),
    ("HEAD", "/docs"),
    ("POST", "/admin/pay"),
    ("GET", "/files/x"),
    ("GET", "/deep/a"),
    ("GET", "/nowhere"),
    ("PUT", "/pay/7"),
    ("GET", "/ping/"),
    ("POST", "/admin/pay/"),
]
HOST = [(b"host", b"partner.example")]


@pytest.mark.parametrize(("method", "path"), PLACES, ids=[" ".join(place) for place in PLACES])
async def test_an_honest_request_fires_the_seal(method: str, path: str) -> None:
    harmless = [Middleware(CORSMiddleware), Middleware(GZipMiddleware), Middleware(TrustedHostMiddleware)]
    seen = await ask(shop(*harmless), method, path, headers=HOST)
    assert seen.sealed is not None
    assert seen.sealed.fired
    assert not seen.unsealed
    assert bool(seen.ran) == (isinstance(seen.target, Routed) and path not in {"/docs", "/files/x"})


def replace(**changes: Any) -> Callable[[Any], None]:
    return lambda scope: scope.update(changes)


def assign(key: str, value: Any) -> Callable[[Any], None]:
    return lambda scope: scope.__setitem__(key, value)


REWRITES = {
    "path to another endpoint": replace(path="/pay/7"),
    "path to an included router": assign("path", "/v1/included/7"),
    "path into a mount": replace(path="/admin/pay"),
    "path to a class": assign("path", "/class"),
    "method": replace(method="DELETE"),
    "method assigned": assign("method", "DELETE"),
    "query": replace(query_string=b"amount=5000"),
    "root path": replace(path="/x/pay/8", root_path="/x"),
    "other parameters": replace(path="/pay/8"),
    "merged in": lambda scope: scope.__ior__({"path": "/pay/8"}),
    "same endpoint, other spelling": replace(path="/pay/7\n"),
    "header changed": lambda scope: scope.update(headers=[(b"x-amount", b"9")]),
    "header repeated": lambda scope: scope.update(headers=[*scope["headers"], *scope["headers"]]),
    "header removed": lambda scope: scope["headers"].clear(),
}


@pytest.mark.parametrize("change", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize(("method", "path"), [("GET", "/ping"), ("POST", "/pay/9"), ("GET", "/nowhere")])
async def test_a_rewriting_layer_is_refused_before_the_handler(
    change: Callable[[Any], None], method: str, path: str
) -> None:
    app = shop(Middleware(Rewriter, change=change))
    with pytest.raises(SealBrokenError, match="was not run"):
        await ask(app, method, path, headers=[(b"x-amount", b"1")])


async def test_a_layer_may_add_headers_of_new_names() -> None:
    change = replace(headers=[(b"host", b"api.example.com"), (b"x-request-id", b"1")])
    assert (await ask(shop(Middleware(Rewriter, change=change)), "POST", "/pay/7")).ran


def updated(scope: Any) -> Any:
    made: dict[str, Any] = {}
    made.update(scope)
    return made


COPIES: dict[str, Callable[[Any], Any]] = {
    "dict()": dict,
    "unpacked": lambda scope: {**scope},
    "copy()": lambda scope: scope.copy(),
    "copy.copy": copy.copy,
    "merged": lambda scope: scope | {"extra": 1},
    "merged into": lambda scope: {"extra": 1} | scope,
    "pairs": lambda scope: dict(scope.items()),
    "by key": lambda scope: {key: scope[key] for key in scope},
    "update": updated,
    "rewritten copy": lambda scope: {**scope, "method": "POST", "path": "/pay/9"},
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(("method", "path"), [p for p in PLACES if p[1] not in {"/nowhere", "/ping/"}])
async def test_a_copying_layer_is_refused_before_the_handler(
    change: Callable[[Any], Any], method: str, path: str
) -> None:
    seen = None
    with pytest.raises(SealBrokenError):
        seen = await ask(shop(Middleware(Rewriter, change=change)), method, path, headers=HOST)
    assert seen is None


async def test_a_copy_that_hides_its_trace_is_seen_when_the_response_starts() -> None:
    change = lambda scope: {**scope, "path_params": {}}
    seen = await ask(shop(Middleware(Rewriter, change=change)), "GET", "/ping")
    assert seen.unsealed


async def test_nobody_reads_the_body_before_the_seal() -> None:
    class Eater:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await receive()
            await self.app(scope, receive, send)

    app = shop(Middleware(Eater))
    with pytest.raises(SealBrokenError, match="reads the body"):
        await ask(app, "POST", "/pay/7", body=b"secret")


async def test_the_handler_reads_the_body_after_it() -> None:
    seen = await ask(shop(), "POST", "/pay/7", body=b"plain")
    assert seen.status == 200


LIES = {
    "another endpoint": lambda target: msgspec.structs.replace(target, steps=(object(),)),
    "a mount before it": lambda target: msgspec.structs.replace(target, steps=(object(), *target.steps)),
    "nothing is entered": lambda target: msgspec.structs.replace(target, steps=()),
    "one step fewer": lambda target: msgspec.structs.replace(target, steps=target.steps[:-1]),
    "not found": lambda _: Unrouted(kind="not_found"),
    "other parameters": lambda target: msgspec.structs.replace(target, params={"account": "8"}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("path", ["/pay/7", "/admin/pay", "/v1/included/7", "/bare"])
async def test_a_resolver_that_lies_is_refused(lie: Callable[[Any], Any], path: str) -> None:
    with pytest.raises(SealBrokenError):
        await ask(shop(lie=lie), "POST", path)


async def test_a_second_dispatch_is_refused() -> None:
    class Twice:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                scope["path"] = "/ping"
                await self.app(scope, receive, send)

    with pytest.raises(SealBrokenError, match="not judged"):
        await ask(shop(Middleware(Twice)), "POST", "/bare")


async def test_an_application_judged_as_a_whole_may_route_inside() -> None:
    inner = Starlette(routes=[Route("/a/{x}", bare)])

    async def hidden(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app = Starlette(routes=[Mount("/whole", app=hidden)], middleware=[Middleware(Fence)])
    seen = await ask(app, "GET", "/whole/a/1")
    assert seen.ran
    assert seen.target is not None
    assert seen.target.closed is False


async def test_a_redirect_below_a_mount_still_redirects() -> None:
    seen = await ask(shop(), "POST", "/admin/pay/")
    assert (seen.status, seen.ran, seen.unsealed) == (307, [], False)


def test_what_a_response_without_the_seal_means() -> None:
    async def ping(request: Request) -> Response:
        return RedirectResponse("/")

    app = Starlette(routes=[Route("/ping", ping)])
    routed = scope_of("GET", "/ping")
    unrouted = scope_of("GET", "/none")
    found = SealedScope(routed, Resolver(app).resolve(routed))
    none = SealedScope(unrouted, Resolver(app).resolve(unrouted))
    assert [left_unsealed(found, status) for status in (200, 404, 307)] == [True, True, True]
    assert [left_unsealed(none, status) for status in (200, 404, 405, 307)] == [True, False, False, False]
    found.update({"endpoint": ping, "path_params": {}})
    assert found.fired
    assert not left_unsealed(found, 200)
    assert found["path_params"] == {}
    assert dict(found) == {**routed, "endpoint": ping, "path_params": {}}


def test_a_sealed_scope_behaves_as_a_dict() -> None:
    scope = scope_of("GET", "/none")
    sealed = SealedScope(scope, Unrouted(kind="not_found", steps=(object(),)))
    assert sealed == scope
    assert "path_params" not in sealed
    assert sealed.get("path_params", {}) == {}
    with pytest.raises(KeyError):
        sealed["none"]
    assert "unsealed copy" in repr(dict(sealed)["path_params"])
