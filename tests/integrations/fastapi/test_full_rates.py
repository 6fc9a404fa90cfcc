"""A caller over a rate is refused before its body is read, and only while it is over it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio

POLICY = """version: 1
service: s
ledger: memory
mode: {mode}
routes: [{{route: POST /pay, capability: c.pay, amount: {{from: body.amount}}, currency: USD}}]
rules: {{allow: [c.pay]}}
limits:
  - {{name: burst, rate: 2/minute, per: actor}}
  - {{name: all, rate: 100/minute, per: global}}
"""


class Caller:
    """Sends one request, and knows whether its body was asked for."""

    def __init__(self, mode: str = "enforce") -> None:
        self.clock = FrozenClock()
        self.fence = Fence(load(POLICY.format(mode=mode)), clock=self.clock)
        self.app = FastAPI()

        @self.app.post("/pay")
        async def pay() -> str:
            return "paid"

        install(self.app, fence=self.fence)

    async def pay(self, peer: str = "192.0.2.1") -> tuple[int, bool, dict[str, Any]]:
        asked, sent = False, []
        body = b'{"amount": "1.00"}'
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/pay",
            "raw_path": b"/pay",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            "client": (peer, 1),
        }

        async def receive() -> dict[str, Any]:
            nonlocal asked
            asked = True
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        told = json.loads(sent[1]["body"])
        return sent[0]["status"], asked, told if isinstance(told, dict) else {}


async def test_what_is_over_a_rate_is_not_read() -> None:
    caller = Caller()
    assert [(await caller.pay())[:2] for _ in range(4)] == [(200, True), (200, True), (429, True), (429, False)]
    status, asked, told = await caller.pay()
    assert (status, asked, told["code"], told["limit"]) == (429, False, "rate.exceeded", "burst")
    assert told["retry_after"] > 1


async def test_another_caller_is_read_and_so_is_this_one_when_there_is_room_again() -> None:
    caller = Caller()
    for _ in range(4):
        await caller.pay()
    assert (await caller.pay("192.0.2.2"))[:2] == (200, True)
    caller.clock.advance(66)
    assert (await caller.pay())[:2] == (200, True)


async def test_what_is_remembered_is_believed_for_five_seconds() -> None:
    caller = Caller()
    for _ in range(3):
        await caller.pay()
    caller.clock.advance(5)
    assert (await caller.pay())[:2] == (429, True)


async def test_a_refusal_without_reading_counts_under_the_other_limits() -> None:
    caller = Caller()
    for _ in range(4):
        await caller.pay()
    row = caller.fence.ledger.rows(["global"])["global"]
    assert [cell.total for cell in row.cells.values()] == [4]
    assert [json.loads(one.receipt.body)["kind"] for one in caller.fence.ledger.receipts(Filter())].count("intent") == 2


async def test_observe_reads_everything() -> None:
    caller = Caller("observe")
    assert [(await caller.pay())[:2] for _ in range(4)] == [(200, True)] * 4
