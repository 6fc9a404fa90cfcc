"""The same tables over HTTP: each row is a request whose action a function of the service makes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from afmiddleware import RequestView, capability
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.model import ActionEvent, Actor, Tier
from afmiddleware.policy.cases import read_event
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install
from tests.conformance.test_rules import NAMES, ROWS, made

pytestmark = pytest.mark.anyio

SENT = [row for row in ROWS if isinstance(row.values[1], dict) and "refused" not in row.values[1]]


def named(actor: Actor) -> Actor:
    """The same caller with an id that callers over HTTP may have."""
    kind, colon, name = actor.id.rpartition(":")
    known = colon and kind != "local"
    return msgspec.structs.replace(actor, id=actor.id if known else f"case:{name}", proof="bearer")


@pytest.mark.parametrize(("policy", "case"), SENT)
async def test_a_row(policy: str, case: dict[str, Any]) -> None:
    config = load(policy)
    event, at = read_event(case["event"], config.exponents, config.environment)
    actor = named(event.actor)

    def who(view: RequestView) -> Actor | None:
        return None if actor.tier is Tier.ANONYMOUS else actor

    def what(_view: RequestView) -> list[ActionEvent]:
        return [event]

    @capability("table.row", amount=what)
    async def act(_request: Request) -> Response:
        return PlainTextResponse("done")

    clock = FrozenClock() if at is None else FrozenClock(at)
    fence = Fence(config.model_copy(update={"environment": event.environment}), clock=clock, authenticators=[who])
    app = Starlette(routes=[Route(event.route or "/act", act, methods=[event.method or "POST"])])
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.example.com") as client:
        answer = await client.request(event.method or "POST", event.route or "/act")
    [body] = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter(kind="intent"))] or [{}]
    told = body if answer.status_code == 200 else json.loads(answer.text)
    fence.close()
    expect = case["expect"]
    word = "allow" if answer.status_code == 200 else "deny"
    word = "require_approval" if told["code"] == "approval.required" else word
    assert (answer.text == "done") is (word == "allow")
    assert word == expect.get("verdict", word)
    assert told["code"] == expect.get("code", told["code"])
    assert told.get("rule", "") == expect.get("rule", told.get("rule", ""))
    if word != "allow":
        assert told["detail"] == expect.get("reason", told["detail"])


@pytest.mark.parametrize(("policy", "case"), NAMES)
async def test_a_row_that_is_no_event(policy: str, case: dict[str, Any]) -> None:
    def what(_view: RequestView) -> list[ActionEvent]:
        return [made(case["event"])]

    def who(_view: RequestView) -> Actor:
        return Actor(id="case:a", tier=Tier.VERIFIED, proof="bearer")

    @capability("table.row", amount=what)
    async def act(_request: Request) -> Response:
        raise AssertionError

    fence = Fence(load(policy), clock=FrozenClock(), authenticators=[who])
    app = Starlette(routes=[Route("/act", act, methods=["POST"])])
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.example.com") as client:
        answer = await client.post("/act")
    fence.close()
    assert (answer.status_code, answer.json()["code"]) == (422, "amount.unresolvable")
