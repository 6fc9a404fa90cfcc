"""Every kind of endpoint of a FastAPI application under one policy: bound ones run as judged, the rest is denied."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from afmiddleware import AFError, capability, current_action
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import FenceMiddleware, install

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: shop
ledger: memory
routes:
  - {route: GET /health, public: true}
  - {route: "GET /items/{item}", capability: items.read, resource: "{path.item}"}
  - {route: "DELETE /v2/orders/deep/{order}", capability: orders.cancel, resource: "{path.order}"}
  - {route: GET /things, capability: things.read}
  - {route: PUT /things, capability: things.put}
  - {route: OPTIONS /things, capability: things.ask}
  - {route: GET /admin/stats, capability: admin.stats}
  - {route: "GET /tenants/{tenant}/users/<int:user>", capability: users.read, resource: "{path.tenant}/{path.user}"}
  - {route: "GET /static/{path:path}", capability: static.read, resource: "{path.path}"}
  - {route: "POST /whole/{path:path}", capability: whole.post, resource: "{path.path}"}
  - {route: "GET /tree/{path:path}", capability: tree.read, resource: "{path.path}"}
  - {route: "GET //{path}.multi.example/{path:path}", capability: host.read, resource: "{path.path}"}
  - {route: "GET //api.partner.example/v1/{x}", capability: partner.read, resource: "{path.x}"}
rules: {allow: ["**"]}
"""


def said(**more: Any) -> Response:
    try:
        action = current_action()
    except AFError:
        return JSONResponse({"capability": "public", **more})
    event: Any = action.event
    return JSONResponse({"capability": event.capability, "resource": event.resource, "route": event.route, **more})


async def plain(request: Any) -> Response:
    return said(method=request.method)


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    await said(method=scope["method"])(scope, receive, send)


class Things(HTTPEndpoint):
    async def get(self, request: Any) -> Response:
        return said(method=request.method)

    async def put(self, request: Any) -> Response:
        return said(method=request.method)

    async def options(self, request: Any) -> Response:
        return said(method=request.method)

    async def delete(self, request: Any) -> Response:
        return said(method=request.method)


def shop(folder: Any) -> FastAPI:
    app = FastAPI()
    app.add_route("/health", plain)

    @app.get("/items/{item}")
    async def read(item: str) -> dict[str, Any]:
        return dict(json.loads(bytes(said(item=item).body)))

    deep, middle = APIRouter(prefix="/deep"), APIRouter(prefix="/orders")

    @deep.delete("/{order:int}")
    async def cancel(order: int) -> dict[str, Any]:
        return dict(json.loads(bytes(said().body)))

    middle.include_router(deep)
    app.include_router(middle, prefix="/v2")
    app.router.routes.append(Route("/things", Things))
    admin = FastAPI()
    admin.add_route("/stats", plain, methods=["GET", "POST"])
    app.mount("/admin", admin)
    app.mount("/tenants/{tenant}", Router([Route("/users/{user:int}", plain)]))
    app.mount("/static", StaticFiles(directory=folder))
    app.mount("/whole", opaque)
    app.router.routes.append(Host("{path}.multi.example", opaque))
    app.add_route("/tree/{path:path}", plain)
    app.router.routes.append(Host("api.partner.example", Router([Route("/v1/{x}", plain)])))
    return app


ADMITTED = [
    ("GET", "/health", "public", None),
    ("HEAD", "/health", None, None),
    ("GET", "/items/7", "items.read", "7"),
    ("GET", "/items/a%20b", "items.read", "a b"),
    ("DELETE", "/v2/orders/deep/12", "orders.cancel", "12"),
    ("GET", "/things", "things.read", None),
    ("PUT", "/things", "things.put", None),
    ("OPTIONS", "/things", "things.ask", None),
    ("GET", "/admin/stats", "admin.stats", None),
    ("GET", "/tenants/t/users/7", "users.read", "t/7"),
    ("POST", "/whole/a/b", "whole.post", "a/b"),
    ("GET", "/tree/a/b", "tree.read", "a/b"),
    ("GET", "http://a.multi.example/x/b", "host.read", "a"),
    ("GET", "http://api.partner.example/v1/q", "partner.read", "q"),
    ("GET", "http://api.partner.example:8000/v1/q", "partner.read", "q"),
]
DENIED = [
    ("DELETE", "/things"),
    ("POST", "/admin/stats"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/redoc"),
    ("GET", "/admin/docs"),
    ("GET", "/admin/openapi.json"),
    ("GET", "/whole/a"),
    ("OPTIONS", "/whole/a"),
    ("PROPFIND", "/whole/a"),
]
FRAMEWORKS_OWN = [
    ("GET", "/nothing", 404),
    ("POST", "/items/7", 405),
    ("HEAD", "/items/7", 405),
    ("PATCH", "/things", 405),
    ("OPTIONS", "/items/7", 405),
    ("GET", "/items/7/", 307),
    ("GET", "/v2/orders/deep/12", 405),
    ("DELETE", "/v2/orders/deep/x", 404),
    ("GET", "http://other.example/v1/q", 404),
]


async def ask(app: Any, method: str, target: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    base = "http://api.example.com"
    async with httpx.AsyncClient(transport=transport, base_url=base, follow_redirects=False) as client:
        return await client.request(method, target, headers=headers)


@pytest.fixture
def app(tmp_path: Any) -> FastAPI:
    (tmp_path / "a.txt").write_text("static")
    made = shop(tmp_path)
    install(made, fence=Fence(load(POLICY), clock=FrozenClock()))
    return made


@pytest.mark.parametrize(("method", "target", "expected", "resource"), ADMITTED)
async def test_what_is_bound_runs_as_judged(
    app: FastAPI, method: str, target: str, expected: str | None, resource: str | None
) -> None:
    answer = await ask(app, method, target)
    assert answer.status_code == 200
    if expected is not None:
        assert answer.json()["capability"] == expected
        assert answer.json().get("resource") == resource
        assert ("agent-receipt" in answer.headers) == (expected != "public")


async def test_a_mounted_file_server_is_one_endpoint(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/static/a.txt")
    assert (answer.status_code, answer.text) == (200, "static")
    assert "agent-receipt" in answer.headers
    head = await ask(app, "HEAD", "/static/a.txt")
    assert (head.status_code, "agent-receipt" in head.headers) == (200, True)
    assert (await ask(app, "POST", "/static/a.txt")).json()["code"] == "route.unmapped"


@pytest.mark.parametrize(("method", "target"), DENIED)
async def test_what_is_not_bound_is_denied(app: FastAPI, method: str, target: str) -> None:
    answer = await ask(app, method, target)
    assert (answer.status_code, answer.json()["code"]) == (403, "route.unmapped")


@pytest.mark.parametrize(("method", "target", "status"), FRAMEWORKS_OWN)
async def test_the_frameworks_own_answers_stay_its_own(app: FastAPI, method: str, target: str, status: int) -> None:
    answer = await ask(app, method, target)
    assert answer.status_code == status
    assert "agent-receipt" not in answer.headers
    assert "problem" not in answer.headers.get("content-type", "")


def fence_in(app: FastAPI) -> Fence:
    return cast("Fence", app.user_middleware[-1].kwargs["fence"])


async def test_head_is_judged_as_the_get_of_its_endpoint(app: FastAPI) -> None:
    answer = await ask(app, "HEAD", "/things")
    assert (answer.status_code, "agent-receipt" in answer.headers) == (200, True)
    receipts = fence_in(app).ledger.receipts(Filter())
    assert json.loads(next(iter(receipts)).receipt.body)["route"] == "GET /things"


ORIGIN = {"origin": "https://web.example"}
ASKS = ORIGIN | {"access-control-request-method": "GET"}


@pytest.mark.parametrize("order", ["install", "added first", "added last"])
async def test_cors(tmp_path: Any, order: str) -> None:
    app, fence = shop(tmp_path), Fence(load(POLICY), clock=FrozenClock())
    if order == "added first":
        app.add_middleware(FenceMiddleware, fence=fence)
    app.add_middleware(CORSMiddleware, allow_origins=["https://web.example"], allow_methods=["*"])
    if order == "install":
        install(app, fence=fence)
    elif order == "added last":
        app.add_middleware(FenceMiddleware, fence=fence)
    preflight = await ask(app, "OPTIONS", "/items/7", **ASKS)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://web.example"
    refused = await ask(app, "GET", "/docs", **ORIGIN)
    dressed = refused.headers.get("access-control-allow-origin")
    assert (refused.status_code, dressed) == (403, None if order == "added last" else "https://web.example")
    # An endpoint with an own OPTIONS is judged, whoever asks, unless the layer outside has answered already.
    own = await ask(app, "OPTIONS", "/things", **ASKS)
    assert ("agent-receipt" in own.headers) == (order == "added last")
    # Of an application that is one endpoint as a whole it cannot be told.
    whole = await ask(app, "OPTIONS", "/whole/x", **ASKS)
    assert whole.status_code == (403 if order == "added last" else 200)


@pytest.mark.parametrize("target", ["/api/items/7", "/items/7"])
async def test_root_path(tmp_path: Any, target: str) -> None:
    app = shop(tmp_path)
    app.root_path = "/api"
    install(app, fence=Fence(load(POLICY), clock=FrozenClock()))
    assert (await ask(app, "GET", target)).json()["capability"] == "items.read"
    assert (await ask(app, "GET", "/apix/items/7")).status_code == 404
    assert (await ask(app, "GET", "/api/docs")).status_code == 403


async def test_routes_that_are_added_while_it_runs(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    assert (await ask(app, "GET", "/health")).status_code == 200
    app.add_route("/later", plain)
    assert (await ask(app, "GET", "/later")).json()["code"] == "route.unmapped"
    app.add_route("/declared", capability("late.read")(opaque_copy()))
    assert (await ask(app, "GET", "/declared")).json()["capability"] == "late.read"
    app.add_route("/wrong", capability("Late Read")(opaque_copy()))
    assert (await ask(app, "GET", "/wrong")).json()["code"] == "route.unmapped"
    assert "GET /wrong" in caplog.text
    assert (await ask(app, "GET", "/declared")).json()["capability"] == "late.read"


def opaque_copy() -> Any:
    async def endpoint(request: Any) -> Response:
        return said(method=request.method)

    return endpoint


async def test_plain_starlette() -> None:
    app = Starlette(
        routes=[Route("/health", plain), Mount("/tenants/{tenant}", routes=[Route("/users/{user:int}", plain)])]
    )
    text = "\n".join(
        line for line in POLICY.splitlines() if "route:" not in line or "health" in line or "users" in line
    )
    install(app, fence=Fence(load(text), clock=FrozenClock()))
    assert (await ask(app, "GET", "/tenants/t/users/7")).json()["resource"] == "t/7"
    assert (await ask(app, "GET", "/tenants/t/users/x")).status_code == 404
