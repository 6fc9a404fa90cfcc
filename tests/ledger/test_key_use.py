"""When an API key was last good, on every ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.keys import last_used
from afmiddleware.ledger.base import Filter
from afmiddleware.model.entry import Closed, KeyUse

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

AT = 1_700_000_000_123_456


def note(ledger: Ledger, key_id: str, at: int) -> bool:
    answer = ledger.commit(KeyUse(key_id, at))
    assert isinstance(answer, Closed)
    return answer.booked


def test_the_latest_use_stands_and_leaves_no_receipt(ledger: Ledger) -> None:
    assert last_used(ledger, ["one", "two"]) == {}
    # Hosts may tell of it in any order.
    assert [note(ledger, "one", at) for at in (AT, AT - 1, AT, AT + 1)] == [True, False, False, True]
    assert note(ledger, "two", AT)
    used = last_used(ledger, ["one", "two", "three"])
    assert {key: round(at.timestamp() * 1_000_000) for key, at in used.items()} == {"one": AT + 1, "two": AT}
    assert list(ledger.receipts(Filter())) == []
