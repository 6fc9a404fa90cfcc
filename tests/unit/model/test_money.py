"""Money is a whole number from zero up, however it is made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from afmiddleware import ActionEvent, Money
from afmiddleware.errors import MoneyError
from afmiddleware.grammar.amounts import MAX_MINOR


@pytest.mark.parametrize("minor", [-1, -1_000_000, MAX_MINOR + 1, 10**30, 1.5, True, "1", None, float("nan")])
def test_what_is_no_amount_is_no_money(minor: Any) -> None:
    """A negative amount of a service's own extractor gave a budget back what others had spent."""
    with pytest.raises(MoneyError, match="not a whole number of minor units"):
        Money(minor, "USD", 2)


@pytest.mark.parametrize("minor", [0, 1, MAX_MINOR])
def test_zero_and_the_largest_are(minor: int) -> None:
    assert Money(minor, "USD", 2).minor == minor
    assert ActionEvent.create(actor="a", resource="r", action="b", amount=Money(minor, "USD", 2)).amount is not None


def test_it_is_checked_when_it_is_read_back_too() -> None:
    with pytest.raises(MoneyError):
        msgspec.structs.replace(Money(1, "USD", 2), minor=-1)
