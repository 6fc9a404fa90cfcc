"""The audit lists every endpoint, names the layers nobody knows, and stops the start when something is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute

from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence as Core
from afmiddleware_fastapi.audit import endpoints, inner_middlewares, listing
from tests.integrations.fastapi.fenced import Fence

HERE = __name__


async def handler(request: Any) -> Response:
    return PlainTextResponse("")


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("")(scope, receive, send)


def findings(app: Any, keys: list[str], inner: list[str], fence_class: type) -> list[str]:
    """What stops the start under a policy that binds `keys` and names `inner` middlewares."""
    routes = "".join(f"  - {{route: {json.dumps(key)}, public: true}}\n" for key in keys)
    text = f"version: 1\nservice: s\nledger: memory\ninner_middleware: {json.dumps(inner)}\n"
    core = Core(load(text + (f"routes:\n{routes}" if routes else "")))
    try:
        core.adopt(listing(app, fence_class))
    except ConfigError as error:
        return list(error.problems)
    finally:
        core.close()
    return []


class Things(HTTPEndpoint):
    async def get(self, request: Any) -> Response:
        return PlainTextResponse("")

    async def delete(self, request: Any) -> Response:
        return PlainTextResponse("")


class Plain:
    """A middleware nobody knows."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class OwnGZip(GZipMiddleware):
    """Calls itself harmless, and is not."""


class Odd(BaseRoute):
    def matches(self, scope: Any) -> tuple[Match, Any]:
        return Match.NONE, {}


class OddRouter(Router):
    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await opaque(scope, receive, send)


def shop() -> FastAPI:
    app = FastAPI(openapi_url=None)
    included = APIRouter()
    included.add_api_route("/{order}", handler, methods=["GET", "DELETE"])
    app.include_router(included, prefix="/orders")
    app.router.routes.append(Route("/things", Things))
    app.add_route("/both", handler, methods=["GET", "POST"])
    app.router.routes.append(Route("/any", Plain(opaque)))
    app.router.routes.append(WebSocketRoute("/ws/{x}", handler))
    app.mount("/admin", Starlette(routes=[Route("/stats", handler)]))
    app.mount("/static", opaque)
    app.router.routes.append(Host("x.example", Router([Route("/h", handler)], default=opaque)))
    return app


def test_every_endpoint_is_listed() -> None:
    assert [(one.key, one.methods, one.kind) for one in endpoints(shop())] == [
        ("DELETE /orders/{order}", ("DELETE",), "http"),
        ("GET /orders/{order}", ("GET",), "http"),
        ("DELETE /things", ("DELETE",), "http"),
        ("GET /things", ("GET", "HEAD"), "http"),
        ("GET /both", ("GET", "HEAD"), "http"),
        ("POST /both", ("POST",), "http"),
        ("* /any", (), "http"),
        ("WEBSOCKET /ws/{x}", ("WEBSOCKET",), "websocket"),
        ("GET /admin/stats", ("GET", "HEAD"), "http"),
        ("* /static/{path:path}", (), "mount"),
        ("GET //x.example/h", ("GET", "HEAD"), "http"),
        ("* //x.example/{path:path}", (), "mount"),
    ]


def test_the_documentation_pages_are_endpoints_too() -> None:
    keys = {one.key for one in endpoints(FastAPI())}
    assert keys == {"GET /openapi.json", "GET /docs", "GET /docs/oauth2-redirect", "GET /redoc"}


def test_names_are_import_paths() -> None:
    assert {one.name for one in endpoints(shop()) if one.key.endswith("/things")} == {f"{HERE}.Things"}


def test_layers_outside_the_fence_and_known_ones_inside_are_no_concern() -> None:
    layers = [Middleware(Plain), Middleware(Fence), Middleware(CORSMiddleware), Middleware(GZipMiddleware)]
    assert inner_middlewares(FastAPI(middleware=layers), Fence) == []


async def dispatch(request: Any, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


def inside(layer: Any, **options: Any) -> FastAPI:
    return FastAPI(middleware=[Middleware(Fence), Middleware(layer, **options)])


def around_a_mounted_app() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.mount("/a", Plain(Starlette(routes=[Route("/b", handler)])))
    return app


def inside_a_mounted_app() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.mount("/a", Starlette(routes=[Route("/b", handler)], middleware=[Middleware(Plain)]))
    return app


def on_a_mount() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.router.routes.append(Mount("/a", routes=[Route("/b", handler)], middleware=[Middleware(Plain)]))
    return app


def on_a_route() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.router.routes.append(Route("/b", handler, middleware=[Middleware(Plain)]))
    return app


def on_a_router() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.mount("/a", Router([Route("/b", handler)], middleware=[Middleware(Plain)]))
    return app


def deep_inside() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Fence)])
    app.mount("/m", Router([Host("h", Starlette(middleware=[Middleware(Plain)]))]))
    return app


PLACES = {
    "a class": (lambda: inside(Plain), f"{HERE}.Plain"),
    "a subclass of a known one": (lambda: inside(OwnGZip), f"{HERE}.OwnGZip"),
    "a function": (lambda: inside(BaseHTTPMiddleware, dispatch=dispatch), f"{HERE}.dispatch"),
    "around a mounted app": (around_a_mounted_app, f"{HERE}.Plain"),
    "inside a mounted app": (inside_a_mounted_app, f"{HERE}.Plain"),
    "on a mount": (on_a_mount, f"{HERE}.Plain"),
    "on a route": (on_a_route, f"{HERE}.Plain"),
    "on a router": (on_a_router, f"{HERE}.Plain"),
    "deep inside": (deep_inside, f"{HERE}.Plain"),
    "before a fence that is elsewhere": (lambda: FastAPI(middleware=[Middleware(Plain)]), f"{HERE}.Plain"),
}


@pytest.mark.parametrize(("build", "name"), PLACES.values(), ids=PLACES)
def test_an_unknown_layer_inside_the_fence_stops_the_start(build: Any, name: str) -> None:
    app = build()
    assert inner_middlewares(app, Fence) == [name]
    (problem,) = findings(app, [], [], Fence)
    assert name in problem
    assert findings(app, [], [name], Fence) == []


def test_the_applications_own_function_middleware_is_named() -> None:
    app = FastAPI()
    app.middleware("http")(dispatch)
    app.user_middleware.insert(0, Middleware(Fence))
    assert inner_middlewares(app, Fence) == [f"{HERE}.dispatch"]


@pytest.mark.parametrize(
    "key",
    [
        "GET /orders/{order}",
        "POST /both",
        "PATCH /any",
        "GET /static/{path:path}",
        "WEBSOCKET /ws/{x}",
        "GET //x.example/h",
    ],
)
def test_a_binding_with_an_endpoint_is_fine(key: str) -> None:
    assert findings(shop(), [key], [], Fence) == []


@pytest.mark.parametrize(
    ("key", "offer"),
    [
        ("GET /orders/{id}", "GET /orders/{order}"),
        ("GET /order/{order}", "GET /orders/{order}"),
        ("HEAD /both", "GET /both"),
        ("POST /admin/stats", "GET /admin/stats"),
        ("GET /static/", "GET /static/{path:path}"),
        ("DELETE /nothing/like/it/anywhere", None),
    ],
)
def test_a_binding_without_an_endpoint_stops_the_start(key: str, offer: str | None) -> None:
    (problem,) = findings(shop(), [key], [], Fence)
    assert key in problem
    assert ("did you mean" in problem) == (offer is not None)
    assert offer is None or offer in problem


def test_an_unknown_kind_of_route_stops_the_start() -> None:
    app = FastAPI()
    app.router.routes.append(Odd())
    (problem,) = findings(app, [], [], Fence)
    assert f"{HERE}.Odd" in problem


def test_an_included_route_class_that_matches_in_its_own_way_stops_the_start() -> None:
    class Own(APIRoute):
        def matches(self, scope: Any) -> Any:
            return super().matches(scope)

    app = FastAPI()
    included = APIRouter(route_class=Own)
    included.add_api_route("/x", handler)
    app.include_router(included, prefix="/p")
    opaque_nodes = any(not hasattr(route, "path") for route in app.router.routes)
    problems = findings(app, [], [], Fence)
    assert bool(problems) == opaque_nodes


class Rewriting(APIRoute):
    def get_route_handler(self) -> Any:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Any:
            async def other() -> Any:
                return {"type": "http.request", "body": b'{"amount": 5000}', "more_body": False}

            return await inner(Request(request.scope, other))

        return handle


class Handling(Route):
    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await super().handle(scope, receive, send)


@pytest.mark.parametrize("included", [True, False])
def test_a_route_class_that_may_exchange_the_request_is_a_layer(included: bool) -> None:
    app = FastAPI()
    router = APIRouter(route_class=Rewriting)
    router.add_api_route("/x", handler)
    if included:
        app.include_router(router, prefix="/p")
    else:
        app.router.routes.extend(router.routes)
    assert inner_middlewares(app, Fence) == [f"{HERE}.Rewriting"]
    assert f"{HERE}.Rewriting" in findings(app, [], [], Fence)[0]
    assert findings(app, [], [f"{HERE}.Rewriting"], Fence) == []


def test_so_is_one_of_starlette() -> None:
    assert inner_middlewares(Starlette(routes=[Handling("/x", handler)]), Fence) == [f"{HERE}.Handling"]


def test_two_fences_stop_the_start() -> None:
    app = FastAPI(middleware=[Middleware(Fence), Middleware(Fence)])
    assert findings(app, [], [], Fence) == ["the fence is added twice; keep the first add_middleware call alone"]


def test_a_router_that_dispatches_in_its_own_way_stops_the_start() -> None:
    app = Starlette()
    app.router = OddRouter()
    assert "OddRouter" in findings(app, [], [], Fence)[0]


def test_something_that_is_no_starlette_application() -> None:
    with pytest.raises(TypeError, match="route table"):
        endpoints(opaque)
