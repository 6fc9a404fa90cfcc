"""The reservations of one owner are found among all, by whatever name it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.model import Settlement, Window
from tests.ledger.conftest import ending, entry, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

BUDGET = spend(1_000, Window("day"))


def test_those_of_an_owner(ledger: Ledger) -> None:
    owners = ["key:a", "key:ab", "a", "jwt:https://as.example|\xe4\u20ac", "key:"]
    for owner in owners:
        for state, end in (("held", None), ("unknown", Settlement.UNKNOWN), ("settled", Settlement.CAPTURE)):
            begun = entry(f"{owners.index(owner)} {state}", BUDGET, amount=1, owner=owner)
            held = ledger.commit(begun)
            if end is not None:
                ledger.commit(ending(begun, held, end))  # type: ignore[arg-type]
    for place, owner in enumerate(owners):
        assert [name for name, _ in ledger.holds("held", owner)] == [f"{place} held"]
        assert [name for name, _ in ledger.holds("unknown", owner)] == [f"{place} unknown"]
    assert list(ledger.holds("held", "nobody")) == []
    assert len(list(ledger.holds())) == len(owners)
