"""The resolver gives the router's own answer, for every kind of route, and the key a policy binds."""

from __future__ import annotations

from typing import Any

import fastapi.routing
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Match, Mount, Route, Router, WebSocketRoute

from afmiddleware_fastapi.resolver import Resolver, Routed, Unrouted
from tests.integrations.fastapi.fenced import Fence, ask, note, scope_of

pytestmark = pytest.mark.anyio


def handler(name: str) -> Any:
    async def run(request: Request) -> Response:
        note(request.scope, run)
        return PlainTextResponse(name)

    run.__name__ = name
    return run


class Things(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        note(request.scope, Things)
        return PlainTextResponse("get")

    async def post(self, request: Request) -> Response:
        note(request.scope, Things)
        return PlainTextResponse("post")


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    note(scope, opaque)
    await PlainTextResponse("opaque")(scope, receive, send)


class Whole:
    """An application as the endpoint of a route."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        note(scope, self)
        await PlainTextResponse("whole")(scope, receive, send)


async def chat(websocket: WebSocket) -> None:
    note(websocket.scope, chat)
    await websocket.close()


def build() -> FastAPI:
    """Every kind of route there is, in one application."""
    app = FastAPI()
    app.add_middleware(Fence)

    @app.get("/v1/items/{item}")
    async def read(item: str, request: Request) -> str:
        note(request.scope, read)
        return item

    @app.api_route("/v1/both", methods=["GET", "HEAD"], include_in_schema=False)
    async def both(request: Request) -> str:
        note(request.scope, both)
        return "both"

    deep = APIRouter(prefix="/deep")

    @deep.delete("/{order:int}")
    async def cancel(order: int, request: Request) -> str:
        note(request.scope, cancel)
        return str(order)

    deep.add_route("/bare", handler("bare"), methods=["GET"])
    deep.routes.append(Mount("/mounted", routes=[Route("/{x}", handler("in_included_mount"))]))
    middle = APIRouter(prefix="/orders")
    middle.include_router(deep)

    @middle.websocket("/feed/{name}")
    async def feed(websocket: WebSocket, name: str) -> None:
        note(websocket.scope, feed)
        await websocket.close()

    app.include_router(middle, prefix="/v2")

    admin = FastAPI()

    @admin.post("/refunds/{refund}")
    async def refund(refund: int, request: Request) -> int:
        note(request.scope, refund)
        return 1

    admin.mount("/inner", Starlette(routes=[Route("/x/{y:float}", handler("y"), methods=["PUT"])]))
    app.mount("/admin", admin)
    app.mount("/tenants/{tenant}", Router([Route("/users/{user:uuid}", handler("user"))]))
    app.mount("/zipped", GZipMiddleware(Starlette(routes=[Route("/a", handler("zipped"))])))
    app.mount("/static", opaque)
    app.mount("/default", Router([Route("/known", handler("known"))], default=opaque))
    app.router.routes.append(Host("{sub}.partner.example", Router([Route("/v1/items/{item}", handler("hosted"))])))
    app.add_route("/starlette/{name}", handler("starlette"), methods=["GET"])
    app.router.routes.append(Route("/things", Things))
    app.router.routes.append(Route("/whole/{rest:path}", Whole()))
    app.router.routes.append(WebSocketRoute("/chat/{room}", chat))
    app.add_route("/v1/items/special", handler("shadowed"), methods=["GET", "POST"])
    app.add_route("/slashed/", handler("slashed"))
    return app


LIVE_INCLUDES = hasattr(fastapi.routing, "iter_route_contexts")
UUID = "12345678-1234-5678-1234-567812345678"
ROUTED = [
    ("GET", "/v1/items/7", "GET /v1/items/{item}", {"item": "7"}),
    ("GET", "/v1/items/special", "GET /v1/items/{item}", {"item": "special"}),
    ("POST", "/v1/items/special", "POST /v1/items/special", {}),
    ("HEAD", "/v1/items/special", "GET /v1/items/special", {}),
    ("HEAD", "/v1/both", "GET /v1/both", {}),
    ("GET", "/v1/both\n", "GET /v1/both", {}),
    ("DELETE", "/v2/orders/deep/12", "DELETE /v2/orders/deep/{order:int}", {"order": 12}),
    ("GET", "/v2/orders/bare", "GET /v2/orders/bare", {}),
    ("GET", "/v2/orders/mounted/q", "GET /v2/orders/mounted/{x}", {"x": "q"}),
    ("WEBSOCKET", "/v2/orders/feed/a", "WEBSOCKET /v2/orders/feed/{name}", {"name": "a"}),
    ("POST", "/admin/refunds/3", "POST /admin/refunds/{refund}", {"refund": "3"}),
    ("PUT", "/admin/inner/x/1.5", "PUT /admin/inner/x/{y:float}", {"y": 1.5}),
    ("GET", "/admin/openapi.json", "GET /admin/openapi.json", {}),
    ("GET", f"/tenants/t/users/{UUID}", "GET /tenants/{tenant}/users/{user:uuid}", None),
    ("GET", "/zipped/a", "GET /zipped/a", {}),
    ("GET", "/static/a/b", "GET /static/{path:path}", {"path": "a/b"}),
    ("DELETE", "/static/", "DELETE /static/{path:path}", {"path": ""}),
    ("GET", "/default/known", "GET /default/known", {}),
    ("PATCH", "/default/other", "PATCH /default/{path:path}", {"path": "other"}),
    ("HEAD", "/starlette/a", "GET /starlette/{name}", {"name": "a"}),
    ("GET", "/things", "GET /things", {}),
    ("HEAD", "/things", "GET /things", {}),
    ("POST", "/things", "POST /things", {}),
    ("PROPFIND", "/whole/a/b", "PROPFIND /whole/{rest:path}", {"rest": "a/b"}),
    ("WEBSOCKET", "/chat/x", "WEBSOCKET /chat/{room}", {"room": "x"}),
    ("GET", "/docs", "GET /docs", {}),
    ("HEAD", "/openapi.json", "GET /openapi.json", {}),
]


@pytest.mark.parametrize(("method", "path", "key", "params"), ROUTED, ids=[f"{m} {p!r}" for m, p, _, _ in ROUTED])
async def test_the_router_enters_what_was_resolved(
    method: str, path: str, key: str, params: dict[str, Any] | None
) -> None:
    if path.startswith(("/v2/orders/bare", "/v2/orders/mounted")) and not LIVE_INCLUDES:
        pytest.skip("this FastAPI puts plain routes of included routers elsewhere, or leaves them out")
    seen = await ask(build(), method, path)
    assert isinstance(seen.target, Routed)
    assert seen.target.key == key
    assert params is None or seen.target.params == params
    assert seen.sealed is not None
    assert seen.sealed.fired
    assert not seen.unsealed
    if seen.ran:  # FastAPI's own documentation pages take no notes
        rest = {"path": seen.target.params["path"]} if seen.target.rest else {}
        assert {**seen.ran[0][1], **rest} == seen.target.params
    assert seen.ran or "openapi" in path or path == "/docs"


async def test_a_host_route_has_the_host_in_its_key() -> None:
    app = build()
    app.router.routes.insert(0, app.router.routes.pop(-7))
    host = [(b"host", b"one.partner.example:8080")]
    seen = await ask(app, "GET", "/v1/items/9", headers=host)
    assert isinstance(seen.target, Routed)
    assert seen.target.key == "GET //{sub}.partner.example/v1/items/{item}"
    assert seen.target.params == {"sub": "one", "item": "9"} == seen.ran[0][1]


UNROUTED = [
    ("GET", "/nowhere", "not_found", 404),
    ("GET", "", "not_found", 404),
    ("WEBSOCKET", "/nowhere", "not_found", 403),
    ("WEBSOCKET", "/v1/items/7", "not_found", 403),
    ("GET", "/chat/x", "not_found", 404),
    ("POST", "/v1/items/7", "method_not_allowed", 405),
    ("HEAD", "/v1/items/7", "method_not_allowed", 405),
    ("OPTIONS", "/v1/items/7", "method_not_allowed", 405),
    ("get", "/v1/items/7", "method_not_allowed", 405),
    ("PUT", "/v2/orders/deep/7", "method_not_allowed", 405),
    ("GET", "/v2/orders/deep/x", "not_found", 404),
    ("DELETE", "/things", "method_not_allowed", 405),
    ("GET", "/admin/refunds/3", "method_not_allowed", 405),
    ("GET", "/admin/none", "not_found", 404),
    ("GET", "/v1/items/7/", "redirect", 307),
    ("PUT", "/v2/orders/deep/7/", "redirect", 307),
    ("GET", "/slashed", "redirect", 307),
    ("POST", "/admin/refunds/3/", "redirect", 307),
    ("GET", "/admin", "redirect", 307),
]


@pytest.mark.parametrize(("method", "path", "kind", "status"), UNROUTED, ids=[f"{m} {p!r}" for m, p, _, _ in UNROUTED])
async def test_the_frameworks_own_answers_stay_its_own(method: str, path: str, kind: str, status: int) -> None:
    seen = await ask(build(), method, path)
    assert isinstance(seen.target, Unrouted)
    assert (seen.target.kind, seen.status, seen.ran, seen.unsealed) == (kind, status, [], False)


@pytest.mark.parametrize("path", ["/api/v1/items/7", "/v1/items/7", "/apiv1/items/7", "/api", "/api/admin/refunds/3"])
async def test_root_path(path: str) -> None:
    app = build()
    app.root_path = "/api"
    seen = await ask(app, "GET", path)
    assert isinstance(seen.target, Routed) == bool(seen.ran) == path.endswith("/v1/items/7")


async def test_a_mounted_fastapi_app_with_its_own_root_path() -> None:
    app, admin = FastAPI(), FastAPI()
    admin.root_path = "/elsewhere"
    app.add_middleware(Fence)
    admin.add_route("/x", handler("x"))
    admin.add_route("/admin/x", handler("admin_x"))
    app.mount("/admin", admin)
    seen = await ask(app, "GET", "/admin/x")
    assert seen.ran
    assert isinstance(seen.target, Routed)
    assert seen.target.endpoint is seen.ran[0][0]


async def test_a_default_application_at_the_outside() -> None:
    app = Starlette(routes=[Route("/a", handler("a"))], middleware=[Middleware(Fence)])
    app.router.default = opaque
    seen = await ask(app, "GET", "/b")
    assert isinstance(seen.target, Routed)
    assert seen.target.key == "GET /{path:path}"
    assert seen.ran
    assert seen.sealed is not None
    assert seen.sealed.fired


async def test_frontend_files_are_an_endpoint_of_their_own(tmp_path: Any) -> None:
    app = FastAPI(openapi_url=None)
    if not hasattr(app, "frontend"):
        pytest.skip("this FastAPI serves no frontends")
    (tmp_path / "index.html").write_text("hi")
    app.add_middleware(Fence)
    app.frontend("/ui", directory=tmp_path)
    seen = await ask(app, "GET", "/ui/index.html")
    assert isinstance(seen.target, Routed)
    assert (seen.target.key, seen.status, seen.unsealed) == ("GET /{path:path}", 200, False)
    assert isinstance((await ask(app, "GET", "/other")).target, Unrouted)
    assert (await ask(app, "POST", "/ui/index.html")).status == 405


def test_routes_added_later_are_seen() -> None:
    app = FastAPI()
    included = APIRouter()
    app.include_router(included, prefix="/in")
    resolver = Resolver(app)
    assert isinstance(resolver.resolve(scope_of("GET", "/late")), Unrouted)
    app.add_route("/late", handler("late"))
    assert isinstance(resolver.resolve(scope_of("GET", "/late")), Routed)
    included.add_route("/late", handler("later"))
    served = any(r.matches(scope_of("GET", "/in/late"))[0] is Match.FULL for r in app.router.routes)
    assert served == LIVE_INCLUDES
    assert isinstance(resolver.resolve(scope_of("GET", "/in/late")), Routed if served else Unrouted)


async def test_a_router_that_redirects_no_slashes() -> None:
    app = Starlette(routes=[Route("/a", handler("a"))], middleware=[Middleware(Fence)])
    app.router.redirect_slashes = False
    seen = await ask(app, "GET", "/a/")
    assert isinstance(seen.target, Unrouted)
    assert (seen.target.kind, seen.status) == ("not_found", 404)


def test_an_application_that_mounts_itself() -> None:
    app = Starlette(routes=[Route("/a", handler("a"))])
    app.mount("/again", app)
    target = Resolver(app).resolve(scope_of("GET", "/again/a"))
    assert isinstance(target, Routed)
    assert target.key == "GET /again/{path:path}"


SEGMENT = st.sampled_from(
    ["a", "b", "v1", "{p}", "{n:int}", "{r:path}", "x{q}", "{f:float}.json", "{u:uuid}", "", "a.b"]
)
PIECE = st.sampled_from(["a", "b", "v1", "7", "xa", "1.5.json", "1.5", UUID, "", "a.b", "aXb", "a\n", "%2F", "é"])


@st.composite
def declared(draw: Any, depth: int = 2) -> Any:
    names = iter("abcdefgh")
    raw = "".join("/" + part for part in draw(st.lists(SEGMENT, min_size=1, max_size=4)))
    path = "".join(f"{{{next(names)}{depth}" + rest[1:] if i and rest else rest for i, rest in _cut(raw))
    kind = draw(st.integers(0, 5))
    if kind == 0 and depth:
        inner = draw(st.lists(declared(depth - 1), max_size=4))
        return Mount(path if draw(st.booleans()) else "", app=Router(inner, redirect_slashes=draw(st.booleans())))
    if kind == 1:
        return WebSocketRoute(path, chat)
    methods = draw(st.sampled_from([None, ["GET"], ["POST"], ["GET", "DELETE"], ["HEAD"]]))
    return Route(path, handler(path), methods=methods) if kind < 5 else Route(path, Things)


def _cut(raw: str) -> list[tuple[int, str]]:
    """Split at parameters, and drop their names so that each can be given one of its own."""
    first, *rest = raw.split("{")
    return [(0, first), *((1, "{" + part[1:]) for part in rest)]


@given(
    routes=st.lists(declared(), max_size=8),
    paths=st.lists(st.lists(PIECE, max_size=5), min_size=1, max_size=6),
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "WEBSOCKET"]),
)
async def test_any_application_is_resolved_as_its_router_routes(
    routes: list[Any], paths: list[list[str]], method: str
) -> None:
    app = Starlette(routes=routes, middleware=[Middleware(Fence)])
    for pieces in paths:
        path = "/" + "/".join(pieces)
        seen = await ask(app, method, path)
        assert bool(seen.ran) == isinstance(seen.target, Routed)
        if isinstance(seen.target, Routed):
            assert seen.ran[0][:2] == (seen.target.endpoint, seen.target.params)
        elif method != "WEBSOCKET":
            assert isinstance(seen.target, Unrouted)
            assert seen.status == {"not_found": 404, "method_not_allowed": 405, "redirect": 307}[seen.target.kind]


@given(routes=st.lists(declared(0), max_size=30), pieces=st.lists(PIECE, max_size=5))
def test_the_index_leaves_out_only_what_cannot_match(routes: list[Any], pieces: list[str]) -> None:
    app = Starlette(routes=routes)
    path = "/" + "/".join(pieces)
    for method in ("GET", "WEBSOCKET"):
        scope = scope_of(method, path)
        places = Resolver(app).tree.root.index.places(path)
        matching = [place for place, route in enumerate(routes) if route.matches(scope)[0] is not Match.NONE]
        assert set(matching) <= set(places)
        assert list(places) == sorted(set(places))


def test_many_routes_ask_few_of_them() -> None:
    asked = 0

    class Counted(Route):
        pass

    app = Starlette(
        routes=[Counted(f"/v1/{{tenant}}/r{number}/{{id}}", handler("h")) for number in range(500)]
        + [Route(f"/v1/fixed/f{number}", handler("f")) for number in range(500)]
    )
    tree = Resolver(app).tree
    for path in ("/v1/t/r400/7", "/v1/fixed/f499", "/none", "/v1/fixed/f499/"):
        asked += len(tree.root.index.places(path))
    assert asked == 2
