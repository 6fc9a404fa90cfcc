"""What was taken back, on every ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.orders import taking_back
from afmiddleware.model.revocation import ANY_TIME, Revocation
from afmiddleware.receipts.canonical import strict_parse
from tests.ledger.conftest import opened

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock


def entry(name: str, until: int = ANY_TIME, before: int = ANY_TIME) -> Revocation:
    return Revocation(kind="jti", issuer="https://as.example.com", name=name, before=before, until=until)


def test_what_is_taken_back_is_stored_and_recorded_together(ledger: Ledger) -> None:
    assert ledger.revocations() == []
    ledger.commit(taking_back(entry("one"), "ops", "leaked"))
    ledger.commit(taking_back(entry("two", before=5), "ops"))
    ledger.commit(taking_back(entry("two", before=7), "ops"))
    assert ledger.revocations() == [entry("one"), entry("two", before=7)]
    stored = list(ledger.receipts(Filter(kind="operation")))
    assert len(stored) == 3
    body, told = strict_parse(stored[0].receipt.body), stored[0].receipt.disclosed
    assert (body["operation"], body["name"]) == ("token.revoke", "jti")
    assert (told["target"][1], told["by"][1], told["reason"][1]) == ("jti:https://as.example.com|one", "ops", "leaked")


def test_a_memory_ledger_forgets_what_is_over(tmp_path: Path, clock: FrozenClock) -> None:
    with opened("memory", tmp_path, clock) as ledger:
        ledger.commit(taking_back(entry("one", until=clock() + 5), "ops"))
        clock.advance(1)
        ledger.commit(taking_back(entry("two"), "ops"))
        assert ledger.revocations() == [entry("two")]
