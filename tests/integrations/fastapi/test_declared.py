"""Bindings declared in code hold as those of the file do, and are checked by the same checks."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute

from afmiddleware import Money, body, capability, current_action, fixed, path, query
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install
from afmiddleware_fastapi.audit import listing

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: shop
ledger: memory
assets: {USDC: {exponent: 6}}
rules: {allow: ["**"]}
"""


def fence(text: str = "") -> Fence:
    return Fence(load(POLICY + text), clock=FrozenClock())


async def ask(app: Any, method: str, target: str, document: Any = None) -> dict[str, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
        answer = await client.request(method, target, json=document)
    told: dict[str, Any] = answer.json() if answer.content else {}
    return {"status": answer.status_code, **told}


def said() -> dict[str, Any]:
    """What the handler was admitted for."""
    event: Any = current_action().event
    return {
        "capability": event.capability,
        "amount": str(event.amount) if event.amount else None,
        "resource": event.resource,
        "category": event.category,
        "route": event.route,
    }


async def plain(request: Request) -> Response:
    return JSONResponse(said())


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    async def outer(*args: Any, **more: Any) -> Any:
        return await function(*args, **more)

    return outer


def shop(order: str = "inner") -> FastAPI:
    app = FastAPI()
    marks = capability(
        "flights.book",
        amount=body("price"),
        currency=body("currency"),
        resource="flight:{body.flight_id}",
        category=fixed("travel"),
    )

    async def book(request: Request) -> dict[str, Any]:
        return said()

    route = app.post("/v1/bookings")
    if order == "inner":
        route(marks(book))
    elif order == "outer":
        marks(route(book))
    else:
        route(wrapped(wrapped(marks(book))))
    return app


BOOKING = {"price": "12.50", "currency": "EUR", "flight_id": "KL1"}


@pytest.mark.parametrize("order", ["inner", "outer", "wrapped"])
async def test_the_binding_of_a_function(order: str) -> None:
    app = shop(order)
    with_fence = fence()
    install(app, fence=with_fence)
    assert await ask(app, "POST", "/v1/bookings", BOOKING) == {
        "status": 200,
        "capability": "flights.book",
        "amount": "12.50 EUR",
        "resource": "flight:KL1",
        "category": "travel",
        "route": "POST /v1/bookings",
    }
    refused = await ask(app, "POST", "/v1/bookings", {**BOOKING, "price": "-1"})
    assert (refused["status"], refused["code"]) == (422, "amount.unresolvable")


async def test_without_a_declaration_it_is_unmapped() -> None:
    app = FastAPI()
    app.post("/v1/bookings")(lambda: None)
    install(app, fence=fence())
    assert (await ask(app, "POST", "/v1/bookings"))["code"] == "route.unmapped"


class Things(HTTPEndpoint):
    @capability("things.read")
    async def get(self, request: Request) -> Response:
        return JSONResponse(said())

    async def delete(self, request: Request) -> Response:
        return JSONResponse(said())


@capability("things.all", resource="thing:{path.id}")
class AllThings(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse(said())

    @capability("things.remove")
    async def delete(self, request: Request) -> Response:
        return JSONResponse(said())


@pytest.mark.parametrize(
    ("view", "method", "expected"),
    [(Things, "GET", "things.read"), (Things, "DELETE", None), (AllThings, "GET", "things.all"),
     (AllThings, "DELETE", "things.remove")],
)  # fmt: skip
async def test_class_views(view: Any, method: str, expected: str | None) -> None:
    app = Starlette(routes=[Route("/things/{id}", view)])
    install(app, fence=fence())
    answer = await ask(app, method, "/things/7")
    assert answer.get("capability") == expected
    assert answer["status"] == (200 if expected else 403)


def included() -> Any:
    app, outer, inner = FastAPI(), APIRouter(), APIRouter()
    capability("inner.any")(inner)
    capability("outer.any")(outer)
    inner.add_api_route("/a", plain)
    inner.add_api_route("/b", capability("its.own")(wrapped(plain)))
    outer.add_api_route("/c", plain)
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    app.add_api_route("/d", plain)
    return app


def mounted() -> Any:
    sub = Starlette(routes=[Route("/a", plain), Route("/b", capability("its.own")(wrapped(plain)))])
    capability("inner.any")(sub)
    return Starlette(
        routes=[
            Mount("/outer/inner", sub),
            capability("outer.any")(Mount("/outer", routes=[Route("/c", plain)])),
            Route("/d", plain),
        ]
    )


def routers() -> Any:
    inner = capability("inner.any")(
        Router([Route("/a", plain), Route("/b", capability("its.own")(functools.partial(plain)))])
    )
    outer = capability("outer.any")(Router([Mount("/inner", inner), Route("/c", plain)]))
    return Starlette(routes=[Mount("/outer", outer), Route("/d", plain)])


@pytest.mark.parametrize("make", [included, mounted, routers])
@pytest.mark.parametrize(
    ("target", "expected"),
    [("/outer/inner/a", "inner.any"), ("/outer/inner/b", "its.own"), ("/outer/c", "outer.any"), ("/d", None)],
)
async def test_a_router_speaks_for_what_it_holds(make: Callable[[], Any], target: str, expected: str | None) -> None:
    app = make()
    if make is included and not any(hasattr(route, "original_router") for route in app.router.routes):
        pytest.skip("this FastAPI copies the routes of an included router and forgets where they came from")
    install(app, fence=fence())
    assert (await ask(app, "GET", target)).get("capability") == expected


def test_a_router_does_not_speak_for_its_websockets() -> None:
    async def chat(websocket: Any) -> None:
        raise AssertionError

    router = capability("inner.any")(Router([Route("/a", plain), WebSocketRoute("/ws", chat)]))
    core = fence()
    core.adopt(listing(Starlette(routes=[Mount("/m", router)])))
    assert set(core.plan.bindings) == {"GET /m/a"}
    alone = Starlette(routes=[WebSocketRoute("/ws", capability("chat.any")(chat))])
    with pytest.raises(ConfigError, match="a WebSocket can only be public"):
        fence().adopt(listing(alone))


async def test_a_whole_mounted_application() -> None:
    async def opaque(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse(said())(scope, receive, send)

    app = FastAPI()
    app.mount("/opaque", capability("opaque.any")(opaque))
    install(app, fence=fence())
    for method in ("GET", "POST", "PATCH"):
        assert (await ask(app, method, "/opaque/x/y"))["capability"] == "opaque.any"
    assert (await ask(app, "PURGE", "/opaque/x/y"))["code"] == "route.unmapped"


async def test_callables_read_the_request() -> None:
    def total(view: Any) -> Money:
        return Money.of(str(sum(int(one) for one in view.document["cents"])), "EUR")

    app = FastAPI()

    mark = capability("sum.it", amount=total, resource=lambda view: f"who:{view.params['who']}")
    app.post("/sum/{who}")(mark(wrapped(plain)))
    install(app, fence=fence())
    answer = await ask(app, "POST", "/sum/me", {"cents": [1, 2]})
    assert (answer["amount"], answer["resource"]) == ("3.00 EUR", "who:me")


async def test_a_callable_that_finds_nothing_refuses() -> None:
    app = FastAPI()

    @app.post("/sum")
    @capability("sum.it", amount=lambda view: 5)
    async def endpoint() -> None:
        raise AssertionError

    install(app, fence=fence())
    assert (await ask(app, "POST", "/sum", {}))["code"] == "amount.unresolvable"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no capability": ({"name": "Flights Book"}, "capability"),
    "no parameter": ({"resource": path("nobody")}, "path.nobody names no parameter of /v1/x/{id}"),
    "no parameter in a template": ({"resource": "x:{path.nobody}"}, "path.nobody names no parameter"),
    "no source": ({"amount": body("")}, "is not a source"),
    "a unit": ({"amount": query("q", unit="cents")}, "'cents' is not known here; use major or minor"),
    "a price": ({"amount": fixed("5 dollars")}, "dollars"),
    "an unknown currency": ({"amount": query("q"), "currency": "XYZ"}, "XYZ"),
    "a currency alone": ({"currency": "USD"}, "currency without an amount"),
    "an unknown key": ({"amuont": query("q")}, "unknown key 'amuont'; did you mean 'amount'?"),
    "a key of ours": ({"line": "5"}, "unknown key 'line'"),
    "an outcome": ({"on_outcome": "forget"}, "not an outcome"),
    "a credential": ({"recipient": "{header.authorization}"}, "credential"),
    "public": ({"public": True}, "a public route has no capability"),
}


@pytest.mark.parametrize(("fields", "expected"), WRONG.values(), ids=WRONG)
def test_mistakes_name_the_line_of_the_declaration(fields: dict[str, Any], expected: str) -> None:
    app = FastAPI()
    mark = capability(fields.pop("name", "a.b"), **fields)
    app.post("/v1/x/{id}")(mark(wrapped(plain)))
    app.post("/v1/y")(capability("Wrong Too")(wrapped(plain)))
    with pytest.raises(ConfigError) as caught:
        fence().adopt(listing(app))
    mine = [one for one in caught.value.problems if "POST /v1/x/{id}: " in one]
    assert len(caught.value.problems) == len(mine) + 1, "all at once"
    assert expected in mine[0]
    file, line, _ = mine[0].split(":", 2)
    assert file.endswith("test_declared.py")
    assert line.isdigit()
    assert "routes[" not in mine[0]


def test_an_asset_of_the_file_is_a_currency_in_code() -> None:
    app = FastAPI()
    app.post("/x")(capability("a.b", amount=body("n"), currency="USDC")(wrapped(plain)))
    fence().adopt(listing(app))


def test_the_same_endpoint_in_code_and_in_the_file_is_an_error() -> None:
    app = shop()
    text = "routes:\n  - {route: POST /v1/bookings, capability: flights.other}\n"
    with pytest.raises(ConfigError, match=r"test_declared\.py:\d+: POST /v1/bookings .*fence\.yaml:8; keep one"):
        fence(text).adopt(listing(app))


def test_one_function_twice_is_bound_at_both_endpoints() -> None:
    app = FastAPI()
    mark = capability("a.b")(plain_copy := wrapped(plain))
    app.add_api_route("/one", mark, methods=["GET", "POST"])
    app.add_api_route("/two", plain_copy)
    core = fence()
    core.adopt(listing(app))
    assert {"GET /one", "POST /one", "GET /two"} <= set(core.plan.bindings)


def test_the_digest_covers_what_is_declared() -> None:
    def digest(app: FastAPI) -> str:
        core = fence()
        core.adopt(listing(app))
        return core.plan.digest

    nothing = fence().plan.digest
    assert digest(FastAPI()) == nothing
    assert digest(shop()) == digest(shop("wrapped")) != nothing
    other = FastAPI()
    other.post("/v1/bookings")(capability("flights.book", amount=body("cost"))(wrapped(plain)))
    assert digest(other) not in (digest(shop()), nothing)


def test_a_wrong_application_changes_nothing() -> None:
    core = fence()
    before = core.plan
    app = shop()
    app.post("/x")(capability("Wrong")(wrapped(plain)))
    with pytest.raises(ConfigError):
        core.adopt(listing(app))
    assert core.plan is before


async def test_the_receipt_names_the_digest_with_the_code() -> None:
    app, core = shop(), fence()
    install(app, fence=core)
    await ask(app, "POST", "/v1/bookings", BOOKING)
    receipt = json.loads(next(iter(core.ledger.receipts(Filter()))).receipt.body)
    assert receipt["policy"] == core.plan.digest != core.config.digest
