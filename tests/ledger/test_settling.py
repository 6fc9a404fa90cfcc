"""The life of a reservation on every ledger: every step once, money counted until it is released."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.errors import AFError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Closed, Entry, Held, Settlement, Window
from afmiddleware.model.entry import Keep, Settle
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import verify
from tests.ledger.conftest import crowd, ending, entry, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

BUDGET = spend(10_000, Window("total"))
CAPTURE, RELEASE, UNKNOWN = Settlement.CAPTURE, Settlement.RELEASE, Settlement.UNKNOWN


def admit(ledger: Ledger, name: str = "d1", amount: int = 1000, **more: object) -> tuple[Entry, Held]:
    begun = replace(entry(name, BUDGET, amount=amount), **more)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    assert held.verdict.authorized
    return begun, held


def used(ledger: Ledger) -> int:
    return ledger.rows(["actor:key:a"])["actor:key:a"].cells[BUDGET.cell].total


def told(ledger: Ledger, answer: object) -> tuple[bool, str]:
    assert isinstance(answer, Closed)
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert report.code == ""
    return answer.booked, answer.state


def kinds(ledger: Ledger) -> list[str]:
    return [str(stored.columns["kind"]) for stored in ledger.receipts(Filter())]


def test_it_can_be_settled_by_its_id_while_its_handler_runs(ledger: Ledger) -> None:
    one = crowd(1)
    begun = entry("d1", BUDGET, one, amount=1000)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    assert told(ledger, ledger.commit(Settle("d1", CAPTURE, "2.50", "webhook"))) == (True, "capture")
    assert used(ledger) == 250
    # The handler still runs: its slot is taken until its own end, which settles nothing more.
    assert ledger.commit(entry("d2", one)).verdict.code == "concurrency.exceeded"  # type: ignore[union-attr]
    assert told(ledger, ledger.commit(ending(begun, held, RELEASE)))[0] is False
    assert used(ledger) == 250
    assert ledger.commit(entry("d3", one)).verdict.authorized  # type: ignore[union-attr]
    assert kinds(ledger) == ["intent", "outcome", "refusal", "intent"]


@pytest.mark.parametrize(
    ("settlement", "amount", "left"),
    [(CAPTURE, "", 1000), (CAPTURE, "4", 400), (CAPTURE, "14", 1400), (RELEASE, "", 0)],
)
def test_an_unknown_outcome_is_resolved_once(ledger: Ledger, settlement: Settlement, amount: str, left: int) -> None:
    begun, held = admit(ledger)
    assert told(ledger, ledger.commit(ending(begun, held, UNKNOWN))) == (True, "unknown")
    assert used(ledger) == 1000
    assert told(ledger, ledger.commit(Settle("d1", settlement, amount, "ops"))) == (True, settlement.value)
    assert used(ledger) == left
    again = ledger.commit(Settle("d1", RELEASE, "", "ops"))
    assert isinstance(again, Closed)
    assert again.booked is False
    assert used(ledger) == left
    last = strict_parse(list(ledger.receipts(Filter()))[-1].receipt.body)
    assert (last["kind"], last["was"], last["by"], last["captured"]) == ("resolution", "unknown", "ops", str(left))


def test_an_amount_that_is_none_books_nothing(ledger: Ledger) -> None:
    admit(ledger)
    for amount in ("1.005", "-1", "NaN", "ten"):
        with pytest.raises(AFError):
            ledger.commit(Settle("d1", CAPTURE, amount))
    assert used(ledger) == 1000
    assert told(ledger, ledger.commit(Settle("nobody", CAPTURE))) == (False, "")


def rest(ledger: Ledger) -> None:
    """Have the ledger do what is due, as its writer does every few seconds."""
    committer = getattr(ledger, "_committer", None)
    if committer is not None:
        with committer._wake:
            committer._rests = 0.0
    # The first commit finds it due, the second comes after it was done.
    for name in ("tick", "tock"):
        ledger.commit(Settle(name, CAPTURE))


@pytest.mark.parametrize(("then", "left", "state"), [("release", 0, "expired"), ("capture", 1000, "capture")])
def test_what_is_never_heard_of_becomes_what_its_deadline_says(
    ledger: Ledger, clock: FrozenClock, then: str, left: int, state: str
) -> None:
    begun, held = admit(ledger, on_expiry=Keep(60_000_000, then))
    admit(ledger, "kept", 5)
    clock.advance(59)
    rest(ledger)
    assert used(ledger) == 1005
    clock.advance(1)
    rest(ledger)
    assert used(ledger) == left + 5
    assert kinds(ledger) == ["intent", "intent", "outcome"]
    if state == "expired":
        # It was only slow, and has spent: that counts after all, once.
        assert told(ledger, ledger.commit(ending(begun, held, CAPTURE, 700))) == (True, "capture")
        assert used(ledger) == 705
    assert told(ledger, ledger.commit(ending(begun, held, CAPTURE, 700)))[0] is False


@pytest.mark.parametrize(("then", "left"), [("release", 0), ("capture", 1000)])
def test_an_unknown_outcome_becomes_what_its_deadline_says(
    ledger: Ledger, clock: FrozenClock, then: str, left: int
) -> None:
    begun, held = admit(ledger, on_unknown=Keep(3600_000_000, then))
    clock.advance(7200)
    rest(ledger)
    assert used(ledger) == 1000
    ledger.commit(ending(begun, held, UNKNOWN))
    clock.advance(3599)
    rest(ledger)
    assert used(ledger) == 1000
    clock.advance(1)
    rest(ledger)
    assert used(ledger) == left
    last = strict_parse(list(ledger.receipts(Filter()))[-1].receipt.body)
    assert (last["kind"], last["by"], last["settlement"]) == ("resolution", "deadline", then)
    assert told(ledger, ledger.commit(Settle("d1", RELEASE)))[0] is False


@pytest.mark.parametrize("later", [0, 90_000])
def test_what_was_captured_over_its_reservation_is_given_back_whole(
    ledger: Ledger, clock: FrozenClock, later: int
) -> None:
    begun, held = admit(ledger)
    clock.advance(later)
    assert told(ledger, ledger.commit(ending(begun, held, UNKNOWN, captured=1700))) == (True, "unknown")
    assert used(ledger) == 1700
    assert told(ledger, ledger.commit(Settle("d1", RELEASE, "", "ops"))) == (True, "release")
    assert used(ledger) == 0


def test_an_overrun_counts_in_a_counter_that_was_forgotten(ledger: Ledger, clock: FrozenClock) -> None:
    daily = spend(10_000, Window("day"))
    begun = entry("d1", daily, amount=1000)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    clock.advance(3 * 86_400)
    rest(ledger)
    ledger.commit(ending(begun, held, CAPTURE, 1400))
    assert ledger.rows(["actor:key:a"])["actor:key:a"].cells[daily.cell].total == 400
