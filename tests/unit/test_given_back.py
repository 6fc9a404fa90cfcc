"""What an answer gives back of a reservation, as its headers tell it before the outcome is recorded."""

from __future__ import annotations

import pytest

from afmiddleware import ActionEvent, Fence, Money
from afmiddleware.config.load import load
from afmiddleware.current import Action
from afmiddleware.model.outcome import End

POLICY = """
version: 1
service: shop
ledger: memory
rules: {allow: [shop.*]}
"""


@pytest.mark.parametrize(
    ("said", "status", "end", "back"),
    [
        ("", 200, End.OK, 0),
        ("", 303, End.OK, 0),
        ("", 404, End.OK, 1000),
        ("", 500, End.OK, 0),
        ("", 422, End.NOT_REACHED, 1000),
        ("4.00", 200, End.OK, 600),
        ("4.00", 500, End.OK, 600),
        ("12.50", 200, End.OK, -250),
        ("10.00", 404, End.OK, 0),
        ("release", 200, End.OK, 1000),
    ],
)
def test_what_a_status_and_the_handler_say(said: str, status: int, end: End, back: int) -> None:
    fence = Fence(load(POLICY))
    event = ActionEvent.create(actor="bot", resource="shop", action="pay", amount=Money.of("10", "USD"))
    with fence.action(event) as action:
        assert isinstance(action, Action)
        if said == "release":
            action.release()
        elif said:
            action.settle(said)
        assert action.given_back(status, end) == back
    fence.close()
