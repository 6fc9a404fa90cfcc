"""Functions of the service as extractors: sync and async, one amount or several actions, and what they may not do."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from flask import Flask
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from afmiddleware import ActionEvent, Fence, Money, capability, current_action
from afmiddleware.config.load import load
from afmiddleware.ledger.base import Filter
from afmiddleware.mapping.view import RequestView
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_fastapi import install
from afmiddleware_flask import AgentFence

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: extracted
ledger: memory
rules: {deny: [shop.never], allow: [shop.**]}
limits:
  - {name: daily, spend: 100 USD, window: day, per: global}
  - {name: calls, rate: 100/day, per: global}
"""


def plain_of_anybody(view: RequestView) -> Money:
    return Money.of(str(view.document["price"]), "USD")


def plain(view: RequestView) -> Money:
    assert view.actor is not None
    assert view.actor.anonymous
    return plain_of_anybody(view)


async def awaited(view: RequestView) -> Money:
    return plain(view)


class Callable:
    async def __call__(self, view: RequestView) -> Money:
        return plain(view)


def each(view: RequestView) -> list[ActionEvent]:
    return [
        ActionEvent.create(
            actor="somebody-else",
            resource="shop",
            action=item.get("do", "buy"),
            environment="elsewhere",
            amount=Money.of(item["price"], "USD"),
        )
        for item in view.document["items"]
    ]


def made_of(extractor: Any) -> tuple[Fence, Any]:
    fence = Fence(load(POLICY))

    async def buy(_request: Request) -> JSONResponse:
        return JSONResponse([call.event.capability for call in current_action().calls])  # type: ignore[union-attr]

    handler = capability("shop.buy.elsewhere", amount=extractor)(buy)
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    return fence, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


def through_flask(extractor: Any) -> tuple[Fence, Any]:
    fence = Fence(load(POLICY))
    app = Flask("extracted", static_folder=None)
    AgentFence(app, fence=fence)

    @app.post("/buy")
    @capability("shop.buy.elsewhere", amount=extractor)
    def buy() -> list[str]:
        return [call.event.capability for call in current_action().calls]  # type: ignore[union-attr]

    return fence, app.test_client()


def bodies(fence: Fence) -> list[Any]:
    return [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter())]


@pytest.mark.parametrize("extractor", [plain, awaited, Callable()], ids=["plain", "async", "an object"])
async def test_a_function_finds_the_amount(extractor: Any) -> None:
    fence, client = made_of(extractor)
    answer = await client.post("/buy", json={"price": "12.50"})
    assert answer.status_code == 200
    assert (await client.post("/buy", json={"price": "90"})).json()["code"] == "spend.exceeded"
    assert [body["amount"] for body in bodies(fence) if body["kind"] == "intent"] == ["1250"]
    fence, wsgi = through_flask(extractor)
    assert wsgi.post("/buy", json={"price": "12.50"}).status_code == 200
    assert wsgi.post("/buy", json={"price": "90"}).status_code == 403


async def test_a_function_makes_several_actions_of_a_request() -> None:
    fence, client = made_of(each)
    answer = await client.post("/buy", json={"items": [{"price": "60"}, {"price": "30"}]})
    assert answer.json() == ["shop.buy.elsewhere"] * 2
    assert "batch=(" in answer.headers["agent-receipt"]
    intents = [body for body in bodies(fence) if body["kind"] == "intent"]
    assert [(body["amount"], body["owner"], body["environment"]) for body in intents] == [
        ("6000", intents[0]["owner"], ""),
        ("3000", intents[0]["owner"], ""),
    ]
    assert intents[0]["owner"] != "local:somebody-else"
    assert intents[0]["route"] == "POST /buy"
    refused = await client.post("/buy", json={"items": [{"price": "6"}, {"price": "6"}]})
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert refused.json()["code"] == "spend.exceeded"
    denied = await client.post("/buy", json={"items": [{"price": "1"}, {"price": "1", "do": "sell"}]})
    assert denied.status_code == 200


async def test_a_function_cannot_say_who_acts() -> None:
    fence = Fence(load(POLICY.replace("allow: [shop.**]", "allow: [{capability: shop.**, identity: token}]")))
    app = Starlette(
        routes=[Route("/buy", capability("shop.buy", amount=each)(lambda _request: None), methods=["POST"])]
    )
    install(app, fence=fence)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
    answer = await client.post("/buy", json={"items": [{"price": "1"}]})
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.required")


async def test_one_of_several_actions_is_denied() -> None:
    fence = Fence(load(POLICY.replace("shop.never", "shop.sell.*")))
    handler = capability("shop.buy.elsewhere", amount=each)(lambda _request: JSONResponse({}))
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
    denied = await client.post("/buy", json={"items": [{"price": "1"}, {"price": "1", "do": "sell"}]})
    assert denied.json()["code"] == "policy.denied"
    assert [body["kind"] for body in bodies(fence) if body["kind"] == "intent"] == []


def failing(view: RequestView) -> Money:
    raise RuntimeError(view.document["card"])


@pytest.mark.parametrize(
    "extractor",
    [
        failing,
        lambda _view: None,
        lambda _view: "12.50",
        lambda _view: 12.5,
        lambda _view: [],
        lambda _view: [Money.of("1", "USD")],
        lambda view: [each(view)[0]] * 1001,
        lambda _view: [ActionEvent(capability="Shop", actor=_view.actor)],
    ],
    ids=["fails", "nothing", "a text", "a float", "no actions", "no events", "too many", "no capability"],
)
async def test_what_finds_nothing_refuses_and_tells_nobody_why(
    extractor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fence, client = made_of(extractor)
    sent = {"items": [{"price": "1"}], "card": "4111111111111111"}
    answer = await client.post("/buy", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "amount.unresolvable")
    assert through_flask(extractor)[1].post("/buy", json=sent).status_code == 422
    assert "4111" not in answer.text + caplog.text + str(bodies(fence))


@pytest.mark.parametrize("found", ["", "a\nb", "a\0b", "x" * 513, "half \ud800", None, 7, b"acme", ["acme"]])
async def test_a_text_that_a_function_finds_is_held_to_what_a_text_of_the_request_is(found: Any) -> None:
    def recipient(_view: RequestView) -> Any:
        return found

    async def buy(_request: Request) -> JSONResponse:
        return JSONResponse({})

    fence = Fence(load(POLICY))
    handler = capability("shop.buy", amount="1 USD", recipient=recipient)(buy)
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post("/buy", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "amount.unresolvable")
    assert "acme" not in answer.text


@pytest.mark.parametrize("field", ["resource", "recipient", "category", "network"])
async def test_the_texts_of_events_that_a_function_makes_are_held_to_the_same(field: str) -> None:
    def made(_view: RequestView) -> list[ActionEvent]:
        event = ActionEvent.create(actor="x", resource="shop", action="buy", amount=Money.of("1", "USD"))
        return [replace(event, **{field: "a\nb"})]

    _, client = made_of(made)
    async with client:
        answer = await client.post("/buy", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "amount.unresolvable")


async def test_a_key_is_claimed_where_a_function_finds_the_amount() -> None:
    ran: list[int] = []

    async def buy(_request: Request) -> JSONResponse:
        ran.append(1)
        return JSONResponse({"id": len(ran)}, 201)

    fence = Fence(load(POLICY))
    handler = capability("shop.buy", amount=plain, idempotency="required")(buy)
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        without = await client.post("/buy", json={"price": "5"})
        first = await client.post("/buy", json={"price": "5"}, headers={"idempotency-key": "k1"})
        again = await client.post("/buy", json={"price": "5"}, headers={"idempotency-key": "k1"})
    assert (without.status_code, without.json()["code"]) == (400, "idempotency.missing")
    assert (first.status_code, again.status_code, again.json()) == (201, 201, {"id": 1})
    assert again.headers["idempotency-replayed"] == "true"
    assert ran == [1]


async def test_a_key_stands_for_one_action_and_not_for_several() -> None:
    async def buy(_request: Request) -> JSONResponse:
        return JSONResponse({})

    fence = Fence(load(POLICY))
    handler = capability("shop.buy", amount=each, idempotency="optional")(buy)
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    items = {"items": [{"price": "1"}, {"price": "2"}]}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        keyed = await client.post("/buy", json=items, headers={"idempotency-key": "k1"})
        plainly = await client.post("/buy", json=items)
    assert (keyed.status_code, keyed.json()["code"]) == (400, "request.ambiguous")
    assert plainly.status_code == 200


@pytest.mark.parametrize("extractor", [plain_of_anybody, each], ids=["an amount", "actions"])
async def test_a_dry_run_claims_no_key_where_a_function_finds_what_is_done(extractor: Any) -> None:
    ran: list[int] = []

    async def buy(_request: Request) -> JSONResponse:
        ran.append(1)
        return JSONResponse({})

    fence = Fence(load(POLICY + "identity: {api_keys: {store: ledger}}\n"))
    key, _ = fence.keys.create("acct")
    handler = capability("shop.buy.elsewhere", amount=extractor, idempotency="required")(buy)
    app = Starlette(routes=[Route("/buy", handler, methods=["POST"])])
    install(app, fence=fence)
    sent = {"price": "5", "items": [{"price": "5"}]}
    headers = {"idempotency-key": "k1", "authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        dry = await client.post("/buy", json=sent, headers={**headers, "agent-dry-run": "?1"})
        assert (dry.status_code, dry.json()["authorized"], ran) == (200, True, [])
        first = await client.post("/buy", json=sent, headers=headers)
        later = await client.post("/buy", json=sent, headers={**headers, "agent-dry-run": "?1"})
    assert (later.status_code, later.json()["dry_run"], "idempotency-replayed" in later.headers) == (200, True, False)
    assert (first.status_code, "idempotency-replayed" in first.headers, ran) == (200, False, [1])
