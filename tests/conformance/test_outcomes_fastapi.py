"""What the handler, the framework and the layers around the fence do to an admitted action and to a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.errors import AFError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install
from tests.conformance.test_cases_core import settle

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: outcomes
ledger: memory
routes:
  - {route: POST /pay, capability: a.pay, amount: {from: body.amount}}
  - {route: POST /keep, capability: a.keep, amount: {from: body.amount}, on_outcome: keep}
  - {route: POST /unsure, capability: a.unsure, amount: {from: body.amount}, on_outcome: {4xx: keep}}
  - {route: POST /in/pay, capability: a.in, amount: {from: body.amount}, on_outcome: keep}
  - {route: GET /read, capability: a.read}
  - {route: GET /health, public: true}
rules: {allow: [a.*]}
limits:
  - {name: cap, spend: 10 USD, window: total, per: global}
  - {name: reads, rate: 1/minute, per: actor, capability: a.read}
"""


class Payment(BaseModel):
    amount: str
    act: str = ""
    number: int = 0


class Shop:
    """A fenced FastAPI application and what its ledger holds afterwards."""

    def __init__(self, folder: Path) -> None:
        self.fence = Fence(load(POLICY, "shop.yaml"), base=folder, clock=FrozenClock())
        self.seen: list[Any] = []
        self.app = app = FastAPI()

        async def act(payment: Payment) -> Response:
            action = current_action()
            self.seen.append(action)
            match payment.act.partition(" "):
                case ("settle", _, amount):
                    action.settle(amount)
                case ("release", _, _):
                    action.release()
                case ("answer", _, status):
                    return Response(status_code=int(status))
                case ("settle-then-fail", _, amount):
                    action.settle(amount)
                    msg = "after it was settled"
                    raise RuntimeError(msg)
                case ("raise", _, _):
                    msg = "as asked"
                    raise RuntimeError(msg)
                case ("cancel", _, _):
                    raise asyncio.CancelledError
                case ("invalid", _, _):
                    raise RequestValidationError([])
                case ("stream", _, _):
                    return StreamingResponse(broken())
                case _:
                    pass
            return PlainTextResponse("done")

        for path in ("/pay", "/keep", "/unsure"):
            app.post(path)(act)
        router = APIRouter(prefix="/in")
        router.post("/pay")(act)
        app.include_router(router)
        app.get("/read")(read)
        app.get("/health")(health)

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        if self.app.middleware_stack is None and not self.app.user_middleware:
            install(self.app, fence=self.fence)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
            return await client.request(method, path, **more)

    async def pay(self, path: str = "/pay", act: str = "", **more: Any) -> httpx.Response:
        return await self.send("POST", path, json={"amount": "4.00", "act": act, **more})

    def ended(self) -> tuple[str, str, int]:
        """Settlement, end and what is counted, of the only action so far."""
        settle(self)  # type: ignore[arg-type]
        bodies = [strict_parse(stored.receipt.body) for stored in self.fence.ledger.receipts(Filter(kind="outcome"))]
        assert len(bodies) == 1
        row = self.fence.ledger.rows(["global"])["global"]
        return str(bodies[0]["settlement"]), str(bodies[0]["end"]), row.cells["cap/total/USD"].total


async def broken() -> AsyncIterator[bytes]:
    yield b"first"
    msg = "half-way"
    raise RuntimeError(msg)


async def read() -> dict[str, str]:
    return {}


async def health() -> dict[str, bool]:
    try:
        current_action()
    except AFError:
        return {"action": False}
    return {"action": True}


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    shop = Shop(tmp_path)
    yield shop
    shop.fence.close()


@pytest.mark.parametrize(
    ("path", "act", "more", "status", "ended"),
    [
        pytest.param("/pay", "", {}, 200, ("capture", "ok", 400), id="2xx captures"),
        pytest.param("/pay", "settle 1.50", {}, 200, ("capture", "ok", 150), id="less than was reserved"),
        pytest.param("/pay", "settle 0", {}, 200, ("capture", "ok", 0), id="nothing of what was reserved"),
        pytest.param(
            "/pay", "settle 25.00", {}, 200, ("capture", "ok", 2500), id="more than was reserved, over the cap"
        ),
        pytest.param("/pay", "release", {}, 200, ("release", "ok", 0), id="the handler's release wins over 200"),
        pytest.param("/keep", "release", {}, 200, ("release", "ok", 0), id="the handler's release wins over keep"),
        pytest.param(
            "/pay", "settle-then-fail 1", {}, 500, ("capture", "error", 100), id="a settle wins over a failure"
        ),
        pytest.param("/pay", "raise", {}, 500, ("unknown", "error", 400), id="an exception keeps"),
        pytest.param("/keep", "raise", {}, 500, ("unknown", "error", 400), id="an exception keeps under keep"),
        pytest.param("/pay", "stream", {}, 200, ("unknown", "error", 400), id="a broken stream keeps"),
        pytest.param("/pay", "answer 302", {}, 302, ("capture", "ok", 400), id="3xx captures"),
        pytest.param("/pay", "answer 404", {}, 404, ("release", "ok", 0), id="4xx releases"),
        pytest.param("/pay", "answer 503", {}, 503, ("unknown", "ok", 400), id="5xx keeps"),
        pytest.param("/keep", "answer 503", {}, 503, ("capture", "ok", 400), id="5xx captures under keep"),
        pytest.param("/keep", "answer 422", {}, 422, ("capture", "ok", 400), id="the handler's own 422 under keep"),
        pytest.param("/unsure", "answer 409", {}, 409, ("capture", "ok", 400), id="4xx keeps where the route says so"),
        pytest.param(
            "/pay", "", {"number": "x"}, 422, ("release", "not_reached", 0), id="a body the framework refuses"
        ),
        pytest.param("/keep", "", {"number": "x"}, 422, ("release", "not_reached", 0), id="the same under keep"),
        pytest.param("/in/pay", "", {"number": "x"}, 422, ("release", "not_reached", 0), id="in an included router"),
        pytest.param("/keep", "invalid", {}, 422, ("capture", "ok", 400), id="the handler's own validation under keep"),
    ],
)
async def test_how_an_action_ends(
    shop: Shop, path: str, act: str, more: dict[str, Any], status: int, ended: tuple[str, str, int]
) -> None:
    answer = await shop.pay(path, act, **more)
    assert answer.status_code == status
    assert shop.ended() == ended


@pytest.mark.parametrize("status", [422, 200])
async def test_a_refused_body_is_released_whatever_the_application_answers(shop: Shop, status: int) -> None:
    async def told(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"mine": True}, status)

    shop.app.add_exception_handler(RequestValidationError, told)
    answer = await shop.pay("/keep", number="x")
    assert (answer.status_code, answer.json()) == (status, {"mine": True})
    assert shop.ended() == ("release", "not_reached", 0)
    assert shop.seen == []


async def test_a_handler_that_is_cancelled_keeps_the_money_counted(shop: Shop) -> None:
    with pytest.raises(asyncio.CancelledError):
        await shop.pay(act="cancel")
    assert shop.ended() == ("unknown", "client_gone", 400)


async def test_the_handler_knows_its_action_and_nobody_else_does(shop: Shop) -> None:
    answer = await shop.pay()
    (action,) = shop.seen
    assert action.event.amount.minor == 400
    assert f"seq={action.receipt.seq}," in answer.headers["agent-receipt"]
    assert (await shop.send("GET", "/health")).json() == {"action": False}
    with pytest.raises(AFError):
        current_action()


async def test_a_public_answer_passes_untouched(shop: Shop) -> None:
    answer = await shop.send("GET", "/health", headers={"origin": "https://web.example"})
    assert sorted(answer.headers) == ["content-length", "content-type"]


async def test_head_is_judged_as_get(tmp_path: Path) -> None:
    fence = Fence(load(POLICY, "shop.yaml"), base=tmp_path, clock=FrozenClock())
    ran = []

    async def act(request: Request) -> Response:
        ran.append(request.method)
        return PlainTextResponse("x")

    paths = ("/pay", "/keep", "/unsure", "/in/pay")
    app = Starlette(
        routes=[*(Route(path, act, methods=["POST"]) for path in paths), Route("/read", act), Route("/health", act)]
    )
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answers = [await client.head("/read"), await client.get("/read"), await client.head("/read")]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert ran == ["HEAD"]
    fence.close()


@pytest.mark.parametrize("outside", [False, True], ids=["CORS added before", "CORS added after"])
async def test_a_browser_can_read_a_refusal_and_a_receipt(shop: Shop, *, outside: bool) -> None:
    if outside:
        install(shop.app, fence=shop.fence)
    shop.app.add_middleware(CORSMiddleware, allow_origins=["https://web.example"], allow_methods=["*"])
    if not outside:
        install(shop.app, fence=shop.fence)
    origin = {"origin": "https://web.example"}
    first, second = [await shop.send("GET", "/read", headers=origin) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 429)
    for answer, told in ((first, "Agent-Receipt"), (second, "Retry-After")):
        assert answer.headers["access-control-allow-origin"] == "https://web.example"
        assert told in answer.headers["access-control-expose-headers"]
    assert {name.strip() for name in second.headers["vary"].split(",")} >= {"Authorization", "Origin"}
    asks = {"access-control-request-method": "POST"}
    preflight = await shop.send("OPTIONS", "/pay", headers=origin | asks)
    assert preflight.status_code == 200
    assert shop.seen == []


async def test_a_refusal_shows_no_payload_no_token_and_no_path(shop: Shop) -> None:
    secret = {"authorization": "Bearer s3cret-t0ken"}
    hostile = '{"amount": "p4yload", "amount": "p4yload"}'
    json = {"content-type": "application/json"}
    for answer in (
        await shop.send("GET", "/read", headers=secret),
        await shop.send("POST", "/pay", content=hostile, headers=json),
        await shop.send("POST", "/pay", json={"amount": "p4yload"}),
        await shop.send("GET", "/../p4yload/%2e%2e"),
    ):
        assert 400 <= answer.status_code < 500
        for hidden in ("s3cret-t0ken", "p4yload", "shop.yaml", "Traceback", "line"):
            assert hidden not in answer.text + str(answer.headers)
    assert shop.seen == []
