"""The target as a FastAPI application: path operations, included routers, bare Starlette routes, a class, a mount."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import msgspec
import orjson
import pydantic_core
import ujson
from fastapi import APIRouter, FastAPI, Form, Header
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from afmiddleware.fence import Fence
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware_fastapi import install
from tests.corpus.apps import acts
from tests.corpus.apps.acts import paid_calls
from tests.corpus.apps.layers import AsgiLayer

DONE = {"done": True}
READERS: dict[str, Any] = {
    "json": None,
    "orjson": orjson.loads,
    "msgspec": msgspec.json.decode,
    "pydantic": pydantic_core.from_json,
    "ujson": ujson.loads,
}


class Payment(BaseModel):
    amount: Decimal
    to: str | None = None


class Whole(BaseModel):
    amount: int


def act(
    name: str,
    request: Request,
    body: bytes | None = None,
    *,
    params: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, bool]:
    acts.act(
        name,
        case=request.headers.get("x-case", ""),
        method=request.method,
        path=request.scope["path"],
        query=request.scope["query_string"],
        params=params or request.path_params,
        body=body,
        **more,
    )
    return DONE


orders = APIRouter(prefix="/v1/orders")


@orders.get("/{id}")
async def order(request: Request, id: str) -> dict[str, bool]:  # noqa: A002
    return act("order", request)


@orders.delete("/{id}")
async def cancel(request: Request, id: str) -> dict[str, bool]:  # noqa: A002
    return act("cancel", request)


class Things(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse(act("thing", request))


async def wallet(request: Request) -> Response:
    return JSONResponse(act("wallet", request))


async def trade(socket: WebSocket) -> None:
    acts.act("ping", case="websocket", method="WEBSOCKET", path=socket.url.path, query=b"", params={"ran": "websocket"})
    await socket.accept()
    await socket.close()


def money(app: FastAPI) -> None:
    """What is paid from JSON bodies, queries and headers."""

    def pays(name: str, path: str, model: type[BaseModel], answer: Any = lambda: DONE) -> None:
        async def pay(request: Request, payment: Any) -> Any:
            to = payment.to if name == "gift" else None
            act(name, request, await request.body(), amount=payment.amount, to=to)
            return answer()

        pay.__annotations__["payment"] = model
        pay.__annotations__["request"] = Request
        app.post(path)(pay)

    pays("pay", "/v1/payments", Payment)
    pays("gift", "/v1/gifts", Payment)
    pays("integer", "/v1/as/integer", Whole)
    pays("decimal", "/v1/as/decimal", Payment)
    pays("broken", "/v1/broken", Payment, broken)
    pays("declined", "/v1/declined", Payment, lambda: JSONResponse({}, 402))
    pays("stream", "/v1/stream", Payment, lambda: StreamingResponse(pieces()))

    @app.post("/v1/transfers")
    async def transfer(request: Request, amount: int, to: str) -> dict[str, bool]:
        return act("transfer", request, amount=amount, to=to)

    @app.post("/rpc")
    async def rpc(request: Request) -> Any:
        body = await request.body()
        note = partial(note_call, request, body)
        return paid_calls(await request.json(), note)

    @app.post("/v1/tips")
    async def tip(request: Request, x_amount: Annotated[Decimal, Header()]) -> dict[str, bool]:
        return act("tip", request, amount=x_amount)

    def reads(name: str, loads: Any) -> None:
        async def read(request: Request) -> Any:
            body = await request.body()
            payment = await request.json() if loads is None else loads(body)
            return act(f"read-{name}", request, body, amount=payment["amount"])

        app.post(f"/v1/read/{name}")(read)

    for name, loads in READERS.items():
        reads(name, loads)


def note_call(request: Request, body: bytes, amount: object, **more: Any) -> None:
    act("rpc", request, body, amount=amount, **more)


def forms(app: FastAPI) -> None:
    """What is paid from forms. The body of a form that Starlette has parsed is gone, so the fields speak for it."""

    def takes(name: str, path: str, kind: Any) -> None:
        async def take(request: Request, amount: Any) -> Any:
            return act(name, request, amount=amount)

        take.__annotations__["amount"] = Annotated[kind, Form()]
        take.__annotations__["request"] = Request
        app.post(path)(take)

    takes("form", "/v1/forms", Decimal)
    takes("upload", "/v1/uploads", Decimal)
    takes("either", "/v1/either", Decimal)
    takes("form-integer", "/v1/as/form-integer", int)
    takes("form-decimal", "/v1/as/form-decimal", Decimal)


def broken() -> None:
    msg = "as asked"
    raise RuntimeError(msg)


async def pieces() -> AsyncIterator[bytes]:
    yield b"first"
    msg = "as asked, in the middle"
    raise RuntimeError(msg)


def target(fence: Fence | None, *, layered: bool = False, **more: Any) -> FastAPI:
    """One application, with a fence or without."""
    app = FastAPI(**more)

    @app.get("/public/ping")
    async def ping(request: Request) -> dict[str, bool]:
        return act("ping", request)

    money(app)
    forms(app)
    app.include_router(orders)
    app.router.routes.append(Route("/v1/wallet", wallet))
    app.router.routes.append(Route("/v1/things", Things))
    app.websocket("/ws/trade")(trade)

    @app.get("/v1/numbers/{n:int}")
    async def number(request: Request, n: int) -> dict[str, bool]:
        return act("number", request)

    @app.get("/v1/items/{id}")
    async def item(request: Request, id: int) -> dict[str, bool]:  # noqa: A002
        return act("item", request, params={"held": id})

    @app.get("/files/{path:path}")
    async def file(request: Request, path: str) -> dict[str, bool]:
        return act("file", request)

    @app.get("/v1/slashed/")
    async def slashed(request: Request) -> dict[str, bool]:
        return act("slashed", request)

    admin = FastAPI()

    @admin.post("/payout")
    async def payout(request: Request, payment: Payment) -> dict[str, bool]:
        return act("payout", request, await request.body(), amount=payment.amount)

    @admin.get("/ping")
    async def inner_ping(request: Request) -> dict[str, bool]:
        return act("inner-ping", request)

    app.mount("/admin", admin)
    if fence is not None:
        install(app, fence=fence)
    if layered:
        app.user_middleware.append(Middleware(AsgiLayer))
    return app


def create_generic() -> ASGIApp:
    """The same application behind the generic fence, which does not ask its router."""
    return FenceMiddleware(target(None), policy=os.environ["AFM_POLICY"])


def create() -> ASGIApp:
    """The applications of this process: the header `x-app` says which is meant."""
    fence = Fence.from_file(os.environ["AFM_POLICY"])
    main = target(fence)
    others = {b"layered": target(fence, layered=True), b"rooted": target(fence, root_path="/api")}

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        app = others.get(dict(scope.get("headers", ())).get(b"x-app", b""), main)
        await app(scope, receive, send)

    return choose
