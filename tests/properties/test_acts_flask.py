"""Whenever a Flask view acts, what it acted on is what was judged; and what is canonical is always admitted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask, request
from hypothesis import event, given
from hypothesis import strategies as st

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware_flask import AgentFence
from tests.conformance.wsgi import call, environ_of

POLICY = """
version: 1
service: acts
ledger: memory
routes:
  - route: POST /items/{item}/buy
    capability: a.buy
    resource: "item:{path.item}"
    amount: {from: body.amount}
    recipient: {from: body.to}
  - {route: "POST /files/{place:path}", capability: a.file, resource: "file:{path.place}", amount: {from: query.amount}}
rules: {allow: [a.*]}
"""

WORD = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~", min_size=1, max_size=12)
AMOUNT = st.integers(0, 10**9).map(lambda minor: f"{minor // 100}.{minor % 100:02d}")
PIECES = [
    "%2F",
    "%2f",
    "%5C",
    "%00",
    "%0A",
    "%FF",
    "%C3%A9",
    "%25",
    "%2e",
    "..",
    ".",
    "/",
    "//",
    ";",
    "%",
    "#",
    "?",
    " ",
    "a",
]
ODD_PATH = st.lists(st.sampled_from(PIECES) | WORD, max_size=5).map("".join)
NOISE = st.sampled_from(
    [
        "",
        " ",
        "\ufeff",
        "NaN",
        '"',
        "{",
        "}",
        ",",
        '"amount": "5000"',
        '"\\u0061mount": 5000',
        "-",
        "1e9",
        "0",
        "\x00",
        "é",
    ]
)


@st.composite
def canonical(draw: st.DrawFn) -> tuple[str, bytes]:
    """A request that can be read in one way only."""
    amount: Any = draw(AMOUNT)
    if draw(st.booleans()):
        return f"/files/{draw(WORD)}/{draw(WORD)}?amount={amount}", b""
    if draw(st.booleans()):
        amount = int(Decimal(amount))
    document = {"amount": amount, "to": draw(WORD), "note": draw(st.text(st.characters(codec="utf-8"), max_size=5))}
    return f"/items/{draw(WORD)}/buy", json.dumps(document, ensure_ascii=draw(st.booleans())).encode()


@st.composite
def odd(draw: st.DrawFn) -> tuple[str, bytes]:
    """One that was changed somewhere."""
    target, body = draw(canonical())
    if draw(st.booleans()):
        place = draw(st.integers(1, len(target)))
        target = target[:place] + draw(ODD_PATH) + target[place:]
    if body and draw(st.booleans()):
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(NOISE).encode() + body[place:]
    return target.replace(" ", "%20"), body


class Shop:
    """A fenced application whose views compare what they act on with what was judged."""

    def __init__(self) -> None:
        self.fence = Fence(load(POLICY))
        self.acts: list[tuple[Any, Any]] = []
        self.app = app = Flask("acts", static_folder=None)

        @app.post("/items/<item>/buy")
        def buy(item: str) -> str:
            asked = request.get_json()
            self.act(f"item:{item}", Decimal(str(asked["amount"])), str(asked["to"]))
            return "bought"

        @app.post("/files/<path:place>")
        def file(place: str) -> str:
            self.act(f"file:{place}", Decimal(request.args["amount"]), None)
            return "filed"

        AgentFence(app, fence=self.fence)

    def act(self, resource: str, amount: Decimal, recipient: str | None) -> None:
        judged = current_action().event
        assert judged is not None
        assert judged.amount is not None
        held = Decimal(judged.amount.minor).scaleb(-judged.amount.exponent)
        self.acts.append(((resource, amount, recipient), (judged.resource, held, judged.recipient)))

    def send(self, target: str, body: bytes) -> int:
        headers = [("host", "h")]
        if body:
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
        return call(self.app, environ_of("POST", target, headers, body))[0]


@pytest.fixture(scope="module")
def shop() -> Any:
    shop = Shop()
    yield shop
    shop.fence.close()


@given(asked=canonical())
def test_what_is_canonical_is_admitted_as_it_is(shop: Shop, asked: tuple[str, bytes]) -> None:
    shop.acts.clear()
    assert shop.send(*asked) == 200
    ((acted, judged),) = shop.acts
    assert acted == judged


@given(asked=odd())
def test_whatever_runs_is_what_was_judged(shop: Shop, asked: tuple[str, bytes]) -> None:
    shop.acts.clear()
    status = shop.send(*asked)
    event(f"answered {status}")
    assert len(shop.acts) == (status == 200)
    assert all(acted == judged for acted, judged in shop.acts)
