"""The applications that are measured: the same JSON handler, bare and behind things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import new_key
from afmiddleware_fastapi import FenceMiddleware

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = """
version: 1
service: bench
currency: USD
ledger: {ledger}
identity: {{api_keys: {{store: ledger}}}}
routes:
  - route: POST /pay
    capability: payments.pay
    amount: {{from: body.amount, unit: major}}
    recipient: {{from: body.to}}
  - {{route: GET /health, public: true}}
rules:
  allow:
    - {{capability: payments.*, identity: token, max_amount: 500 USD}}
limits:
  - {{name: burst, rate: 100000000/minute, per: actor}}
  - {{name: all, rate: 100000000/minute, per: global}}
  - {{name: hourly, spend: 9000000000 USD, window: rolling 60m, per: actor}}
  - {{name: daily, spend: 9000000000 USD, window: day, per: actor}}
  - {{name: lifetime, spend: 9000000000 USD, window: total, per: actor}}
  - {{name: house, spend: 9000000000 USD, window: day, per: global}}
"""
"""Six limits; the handler's answer is the same everywhere."""


class Payment(BaseModel):
    """What FastAPI parses."""

    amount: float
    to: str


async def pay(request: Request) -> JSONResponse:
    """A Starlette handler that reads the JSON."""
    payment = await request.json()
    return JSONResponse({"paid": payment["amount"]})


async def health(_request: Request) -> JSONResponse:
    """A public endpoint."""
    return JSONResponse({"ok": True})


def starlette_app(*middleware: Middleware) -> Starlette:
    """The bare Starlette application."""
    routes = [Route("/pay", pay, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, middleware=list(middleware))


def fastapi_app() -> FastAPI:
    """The same as a FastAPI application."""
    app = FastAPI()

    @app.post("/pay")
    async def pay(payment: Payment) -> dict[str, Any]:
        return {"paid": payment.amount}

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    return app


class PassThrough:
    """The least that an ASGI middleware can do and still see the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap `send` and pass on."""

        async def outward(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, outward)


def fence_for(ledger: str, base: Path) -> tuple[Fence, str]:
    """A fence with six limits, and an API key for it."""
    fence = Fence(load(POLICY.format(ledger=ledger), "bench.yaml"), base=base)
    text, record = new_key("bench", _draw, now=system_clock())
    fence.ledger.put_api_key(record)
    return fence, text


def fenced_starlette(fence: Fence) -> Starlette:
    """Starlette behind the fence."""
    return starlette_app(Middleware(FenceMiddleware, fence=fence))


def fenced_fastapi(fence: Fence) -> FastAPI:
    """FastAPI behind the fence."""
    app = fastapi_app()
    app.add_middleware(FenceMiddleware, fence=fence)
    return app


def _draw(count: int) -> bytes:
    return bytes(range(count))
