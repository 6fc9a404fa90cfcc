"""What becomes of the money when a handler does something odd."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from afmiddleware import Fence, current_action
from afmiddleware.config.load import load
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: test
ledger: memory
routes: [{route: POST /pay, capability: payments.pay, amount: {from: body.amount}}]
rules: {allow: [payments.pay]}
limits: [{name: cap, spend: 100 USD, window: total, per: global}]
"""


def served(handler: object, folder: Path) -> tuple[httpx.AsyncClient, Fence]:
    fence = Fence(load(POLICY), base=folder)
    app = Starlette(routes=[Route("/pay", handler, methods=["POST"])])  # type: ignore[arg-type]
    install(app, fence=fence)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://x"), fence


def counted(fence: Fence) -> int:
    return fence.ledger.rows(["global"])["global"].cells["cap/total/USD"].total


async def test_money_stays_counted_when_the_seal_breaks_after_the_handler_acted(tmp_path: Path) -> None:
    acts = 0

    async def pay(request: Request) -> JSONResponse:
        nonlocal acts
        acts += 1
        request.scope["endpoint"] = object()
        return JSONResponse({})

    client, fence = served(pay, tmp_path)
    answers = [(await client.post("/pay", json={"amount": "100.00"})).status_code for _ in range(5)]
    assert (acts, counted(fence)) == (1, 10_000)
    assert answers == [500, 403, 403, 403, 403]


@pytest.mark.parametrize(
    ("say", "left"),
    [
        (lambda action: action.settle("12.50"), 1250),
        (lambda action: action.settle("150.00"), 15_000),
        (lambda action: action.release(), 0),
        (lambda action: None, 4000),
    ],
    ids=["less", "more", "released", "nothing said"],
)
async def test_the_handler_says_what_was_spent(say: object, left: int, tmp_path: Path) -> None:
    async def pay(_request: Request) -> JSONResponse:
        say(current_action())  # type: ignore[operator]
        return JSONResponse({})

    client, fence = served(pay, tmp_path)
    answer = await client.post("/pay", json={"amount": "40.00"})
    assert answer.status_code == 200
    assert counted(fence) == left
