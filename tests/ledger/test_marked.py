"""The rows that say more than counters do are found among all others, each with its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.ledger import postgres, sqlite
from afmiddleware.model import Window
from afmiddleware.model.entry import Order
from tests.ledger.conftest import entry, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger


def test_they_are_found_on_every_page(ledger: Ledger) -> None:
    assert sqlite.PAGE == postgres.PAGE == 500
    for number in range(600):
        ledger.post(entry(f"d{number}", spend(100, Window("day")), amount=1, owner=f"key:{number:03}"))
    frozen = ["actor:key:000", "actor:key:599", "actor:" + "x" * 300]
    for key in frozen:
        ledger.commit(Order(what="freeze", key=key, by="ops"))
    # A row of everybody says how many rows there are; one whose key is stored as a digest has none to tell.
    found = {key: row for key, row in ledger.marked() if key != "control"}
    assert set(found) in (set(frozen), {*frozen[:2], ""})
    assert all(row.more is not None and row.more.frozen == {"": ""} for row in found.values())
    assert len(found) == 3
