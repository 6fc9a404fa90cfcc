"""Several actions of one request, in every ledger: all of them are admitted, or nothing is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Closed, Conclusion, Draft, End, Entry, Held, Outcome, Settlement, Window
from afmiddleware.receipts.canonical import strict_parse
from tests.ledger.conftest import DENY, crowd, entry, rate, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

DAY = Window("day", zone="UTC")
BUDGET = spend(10_000, DAY)
SHARED = spend(15_000, DAY, "shared", per="global")
CALLS = rate(5, name="calls")


def admit(ledger: Ledger, entry: Entry) -> Held:
    held = ledger.commit(entry)
    assert isinstance(held, Held)
    return held


def together(first: Entry, *others: Entry) -> Entry:
    return replace(first, others=others)


def totals(ledger: Ledger) -> dict[str, int]:
    rows = ledger.rows(["actor:key:a", "actor:key:b", "global"])
    return {f"{key}/{name}": cell.total for key, row in rows.items() for name, cell in row.cells.items() if cell.total}


def told(ledger: Ledger) -> list[tuple[Any, Any]]:
    bodies = [strict_parse(one.receipt.body) for one in ledger.receipts(Filter())]
    return [(body["id"], body.get("code") or body.get("settlement")) for body in bodies]


def test_what_fits_is_reserved_and_settled_one_by_one(ledger: Ledger) -> None:
    held = admit(ledger, together(*(entry(name, CALLS, BUDGET, SHARED, amount=3000) for name in "xyz")))
    answers = (held, *held.others)
    assert [one.verdict.authorized for one in answers] == [True] * 3
    assert len({one.receipt.seq for one in answers if one.receipt}) == 3
    assert totals(ledger) == {
        "actor:key:a/calls/r60": 3,
        "actor:key:a/budget/day/USD": 9000,
        "global/shared/day/USD": 9000,
    }
    assert {balance.limit.name: balance.used for balance in held.balances} == {
        "calls": 3,
        "budget": 9000,
        "shared": 9000,
    }
    for name, settlement, captured in (("x", Settlement.RELEASE, None), ("y", Settlement.CAPTURE, 1000)):
        assert ledger.commit(Conclusion(name, Outcome(settlement, End.OK, 200, captured))) != Closed(booked=False)
    assert totals(ledger)["global/shared/day/USD"] == 4000
    assert told(ledger)[3:] == [("x", "release"), ("y", "capture")]


def test_what_fits_one_by_one_and_not_together_is_not_charged(ledger: Ledger) -> None:
    held = admit(ledger, together(*(entry(name, CALLS, BUDGET, amount=4000) for name in "xyz")))
    codes = [one.verdict.code for one in (held, *held.others)]
    assert codes == ["request.batch_refused", "request.batch_refused", "spend.exceeded"]
    assert held.others[1].verdict.remaining == "20.00 USD"
    # Every call was judged, and counts as such; no money is left behind.
    assert totals(ledger) == {"actor:key:a/calls/r60": 3}
    assert told(ledger) == list(zip("xyz", codes, strict=True))
    assert list(ledger.holds()) == []


def test_each_stands_in_a_slot_of_its_own(ledger: Ledger) -> None:
    two = crowd(2)
    held = admit(ledger, together(*(entry(name, two) for name in "xyz")))
    codes = [one.verdict.code for one in (held, *held.others)]
    assert codes == ["request.batch_refused", "request.batch_refused", "concurrency.exceeded"]
    held = admit(ledger, together(entry("a", two), entry("b", two)))
    assert [one.verdict.code for one in (held, *held.others)] == ["policy.allowed", "policy.allowed"]
    assert admit(ledger, entry("c", two)).verdict.code == "concurrency.exceeded"


def test_one_refusal_of_the_policy_refuses_all(ledger: Ledger) -> None:
    held = admit(ledger, together(entry("x", BUDGET, amount=1), entry("y", BUDGET, amount=1, verdict=DENY)))
    assert [held.verdict.code, held.others[0].verdict.code] == ["request.batch_refused", "policy.denied"]
    assert all(total == 0 for total in totals(ledger).values())


def test_more_calls_than_a_rate_has_left(ledger: Ledger) -> None:
    admit(ledger, together(*(entry(name, CALLS) for name in "abc")))
    held = admit(ledger, together(*(entry(name, CALLS, BUDGET, amount=1) for name in "xyz")))
    codes = [one.verdict.code for one in (held, *held.others)]
    assert codes == ["request.batch_refused", "request.batch_refused", "rate.exceeded"]
    assert totals(ledger) == {"actor:key:a/calls/r60": 5}


def test_two_owners_and_a_limit_they_share(ledger: Ledger) -> None:
    mine, theirs = entry("x", SHARED, amount=9000), entry("y", SHARED, amount=9000, owner="key:b")
    held = admit(ledger, together(mine, theirs))
    assert held.others[0].verdict.code == "spend.exceeded"
    assert all(total == 0 for total in totals(ledger).values())


def test_what_observes_passes_and_is_charged_over_the_cap(ledger: Ledger) -> None:
    held = admit(ledger, together(*(entry(name, CALLS, BUDGET, amount=8000, observe=True) for name in "xy")))
    assert held.others[0].verdict.code == "spend.exceeded"
    assert held.others[0].receipt is not None
    assert totals(ledger)["actor:key:a/budget/day/USD"] == 16_000


def test_a_dry_run_of_several_counts_them_on_top_of_each_other_and_leaves_nothing(ledger: Ledger) -> None:
    held = admit(ledger, together(*(entry(name, CALLS, BUDGET, amount=6000, dry=True) for name in "xy")))
    assert held.others[0].verdict.code == "spend.exceeded"
    assert all(total == 0 for total in totals(ledger).values())
    assert told(ledger) == []


def test_a_receipt_that_cannot_be_made_leaves_no_trace_of_any(ledger: Ledger) -> None:
    def record(_final: object) -> Draft:
        raise ReceiptError("no")

    first = entry("x", CALLS, BUDGET, amount=1000)
    with pytest.raises(ReceiptError):
        admit(ledger, together(first, replace(entry("y", CALLS, BUDGET, amount=1000), record=record)))
    assert all(total == 0 for total in totals(ledger).values())
    assert told(ledger) == []
    assert list(ledger.holds()) == []
    admit(ledger, together(first, entry("z", CALLS, BUDGET, amount=1000)))
    assert totals(ledger) == {"actor:key:a/calls/r60": 2, "actor:key:a/budget/day/USD": 2000}
    assert [name for name, _ in told(ledger)] == ["x", "z"]
