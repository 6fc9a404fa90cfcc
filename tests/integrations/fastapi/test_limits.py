"""Limits of every kind over HTTP, from the policy file to the status."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from afmiddleware import Fence
from afmiddleware.config.limits import limits_of
from afmiddleware.config.load import load
from afmiddleware.model import Unit, Window
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: test
ledger: memory
timezone: Europe/Amsterdam
routes:
  - {route: POST /pay, capability: payments.pay, amount: {from: body.amount}, recipient: {from: body.to}}
  - {route: GET /look, capability: shop.look}
rules: {allow: [payments.pay, shop.look]}
limits:
"""


def served(folder: Path, *limits: str, handler: object = None) -> tuple[httpx.AsyncClient, Fence, FrozenClock]:
    clock = FrozenClock()
    fence = Fence(load(POLICY + "".join(f"  - {{{one}}}\n" for one in limits)), base=folder, clock=clock)

    async def done(_request: Request) -> Response:
        return JSONResponse({})

    routes = [Route("/pay", handler or done, methods=["POST"]), Route("/look", done)]  # type: ignore[arg-type]
    app = Starlette(routes=routes)
    install(app, fence=fence)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x"), fence, clock


async def pay(client: httpx.AsyncClient, amount: str = "10.00", to: str = "ann") -> tuple[int, str]:
    answer = await client.post("/pay", json={"amount": amount, "to": to})
    return answer.status_code, answer.json().get("code", "")


async def test_as_many_run_at_once_as_may(tmp_path: Path) -> None:
    entered, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def waiting(_request: Request) -> Response:
        entered.release()
        await go_on.wait()
        return JSONResponse({})

    client, _, _ = served(tmp_path, "name: at-once, concurrent: 2, per: global", handler=waiting)
    running = [asyncio.create_task(pay(client)) for _ in range(2)]
    for _ in running:
        await entered.acquire()
    assert await pay(client) == (429, "concurrency.exceeded")
    go_on.set()
    assert await asyncio.gather(*running) == [(200, "")] * 2
    assert await pay(client) == (200, "")


async def test_a_breaker_stops_money_and_lets_reads_pass(tmp_path: Path) -> None:
    breaker = "name: stop, spend: 25 USD, window: day, per: global, on_exceed: trip, half_open: 5m"
    client, _, clock = served(tmp_path, breaker)
    assert [await pay(client) for _ in range(3)] == [(200, ""), (200, ""), (503, "breaker.open")]
    assert await pay(client, "1.00") == (503, "breaker.open")
    assert (await client.get("/look")).status_code == 200
    clock.advance(300)
    assert await pay(client, "1.00") == (200, "")
    assert await pay(client, "1.00") == (200, "")


async def test_a_limit_per_recipient_counts_each_by_itself(tmp_path: Path) -> None:
    client, _, _ = served(tmp_path, "name: each, spend: 15 USD, window: month, per: [recipient, actor]")
    assert [await pay(client, to=to) for to in ("ann", "bob", "ann", "bob")] == [
        (200, ""),
        (200, ""),
        (403, "spend.exceeded"),
        (403, "spend.exceeded"),
    ]


async def test_a_paced_rate_says_when_to_come_back(tmp_path: Path) -> None:
    client, _, clock = served(tmp_path, "name: pace, rate: 30/minute, style: pacing, burst: 2")
    answers = [await client.get("/look") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[2].headers["retry-after"], answers[2].headers["ratelimit-policy"]) == ("2", '"pace";q=30;w=60')
    clock.advance(2)
    assert (await client.get("/look")).status_code == 200


def test_the_file_says_what_is_counted(tmp_path: Path) -> None:
    _, fence, _ = served(
        tmp_path,
        "name: a, rate: 600/minute, style: pacing, per: global, counts: admitted",
        "name: b, spend: 5 USD, window: week, week_start: sunday, per: [tenant, category]",
        "name: c, concurrent: 4, per: session",
        "name: d, spend: 5 USD, window: session, per: session, on_exceed: alert",
        "name: e, spend: 5 USD, window: total, on_exceed: trip, free: refuse",
    )
    a, b, c, d, e = limits_of(fence.config)
    assert (a.cap, a.quota, a.window, a.admitted) == (1, 600, Window("pacing", 60), True)
    assert (b.per, b.window) == ("category+tenant", Window("week", 0, "Europe/Amsterdam", 6))
    assert (c.unit, c.cap, c.per) == (Unit.CONCURRENT, 4, "session")
    assert (d.window.kind, d.on_exceed, d.stops_free) == ("session", "alert", False)
    assert (e.on_exceed, e.half_open, e.stops_free) == ("trip", 0, True)
    assert len({one.cell for one in (a, b, c, d, e)}) == 5
