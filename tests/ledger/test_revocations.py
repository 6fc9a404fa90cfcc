"""What was taken back, on every ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.identity.revocations import ANY_TIME, Revocation

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger


def entry(name: str, until: int = ANY_TIME, before: int = ANY_TIME) -> Revocation:
    return Revocation(kind="jti", issuer="https://as.example.com", name=name, before=before, until=until)


def test_entries_are_kept_until_their_time_is_over(ledger: Ledger) -> None:
    assert ledger.revocations() == []
    ledger.put_revocation(entry("one", until=100), 50)
    ledger.put_revocation(entry("two"), 100)
    assert ledger.revocations() == [entry("one", until=100), entry("two")]
    ledger.put_revocation(entry("two", before=7), 101)
    assert ledger.revocations() == [entry("two", before=7)]
