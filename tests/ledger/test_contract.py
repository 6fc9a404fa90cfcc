"""What every ledger promises, one test a promise."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.errors import AFError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Charge, Closed, Entry, Held, Limit, Outcome, Settlement, Unit, Verdict, Window
from afmiddleware.model.receipt import Draft
from afmiddleware.receipts.verify import verify
from tests.ledger.conftest import ALLOW, DENY, ending, entry, rate, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.limits.rows import Row
    from afmiddleware.testing import FrozenClock

DAY, TOTAL, HOUR = Window("day"), Window("total"), Window("rolling", 3600)


def admit(ledger: Ledger, item: Entry) -> Held:
    held = ledger.commit(item)
    assert isinstance(held, Held)
    return held


def used(ledger: Ledger, cell: str, key: str = "actor:key:a") -> int:
    row: Row | None = ledger.rows([key]).get(key)
    return row.cells[cell].total if row is not None and cell in row.cells else 0


def kinds(ledger: Ledger) -> list[str]:
    return [str(stored.columns["kind"]) for stored in ledger.receipts(Filter())]


def test_an_admission_is_charged_held_and_recorded_at_once(ledger: Ledger) -> None:
    burst, budget = rate(5), spend(10_000, DAY)
    held = admit(ledger, entry("d1", burst, budget, amount=2500))
    assert held.verdict.authorized
    assert held.receipt is not None
    assert held.receipt.seq == 1
    assert [(one.limit.name, one.used, one.remaining) for one in held.balances] == [
        ("burst", 1, 4),
        ("budget", 2500, 7500),
    ]
    assert (used(ledger, burst.cell), used(ledger, budget.cell)) == (1, 2500)
    assert [(name, hold.amount) for name, hold in ledger.holds()] == [("d1", 2500)]
    assert kinds(ledger) == ["intent"]


def test_a_cap_is_reached_exactly(ledger: Ledger) -> None:
    budget = spend(1000, TOTAL)
    answers = [admit(ledger, entry(f"d{n}", budget, amount=300)).verdict for n in range(4)]
    assert [answer.authorized for answer in answers] == [True, True, True, False]
    assert (answers[-1].code, answers[-1].limit, answers[-1].remaining) == ("spend.exceeded", "budget", "1.00 USD")
    assert admit(ledger, entry("rest", budget, amount=100)).verdict.authorized
    assert used(ledger, budget.cell) == 1000


def test_money_is_charged_under_all_limits_or_under_none(ledger: Ledger) -> None:
    wide, tight = spend(10_000, DAY, "wide"), spend(100, TOTAL, "tight", per="global")
    assert not admit(ledger, entry("d1", wide, tight, amount=500)).verdict.authorized
    assert (used(ledger, wide.cell), used(ledger, tight.cell, "global")) == (0, 0)
    assert list(ledger.holds()) == []


def test_a_refusal_by_a_spend_limit_counts_against_the_rate(ledger: Ledger) -> None:
    burst = rate(5)
    admit(ledger, entry("d1", burst, spend(100, TOTAL), amount=500))
    assert used(ledger, burst.cell) == 1


def test_a_full_rate_speaks_before_the_policy_and_counts_under_the_other_rates_only(ledger: Ledger) -> None:
    narrow, wide = rate(2, name="narrow"), rate(50, name="wide")
    for n in range(2):
        assert admit(ledger, entry(f"d{n}", narrow, wide, verdict=DENY)).verdict.code == "policy.denied"
    refused = admit(ledger, entry("d2", narrow, wide, verdict=DENY)).verdict
    assert (refused.code, refused.limit) == ("rate.exceeded", "narrow")
    assert 1 <= refused.retry_after <= 65
    assert (used(ledger, narrow.cell), used(ledger, wide.cell)) == (2, 3)


@pytest.mark.parametrize("admitted", [False, True])
def test_what_one_address_is_refused_does_not_fill_the_block_around_it(ledger: Ledger, admitted: bool) -> None:
    each = replace(rate(2, name="each"), admitted=admitted)
    block = replace(each, cap=8, wide=True)
    beside = rate(50, name="beside")

    def asked(name: str, address: str, verdict: Verdict = ALLOW, observe: bool = False) -> Verdict:
        one = entry(name, verdict=verdict, quiet=True, observe=observe, owner=f"address:{address}")
        rates = (Charge(each, f"actor:{address}", 1), Charge(beside, "beside", 1), Charge(block, "actor:block", 1))
        return admit(ledger, replace(one, rates=rates)).verdict

    answers = [asked(f"d{n}", "a") for n in range(20)]
    assert [one.authorized for one in answers] == [True] * 2 + [False] * 18
    assert {one.limit for one in answers[2:]} == {"each"}
    assert used(ledger, block.cell, "actor:block") == 2
    # Other limits count what this one refuses.
    assert used(ledger, beside.cell, "beside") == 20
    assert [asked(f"e{n}", f"b{n}").authorized for n in range(7)] == [True] * 6 + [False]
    # What is only observed is counted everywhere, over the cap too.
    asked("f1", "c", DENY, observe=True)
    assert used(ledger, block.cell, "actor:block") == 9


def test_a_rate_of_zero_lets_none_pass(ledger: Ledger) -> None:
    verdict = admit(ledger, entry("d1", rate(0))).verdict
    assert (verdict.code, verdict.retry_after, verdict.resets_at) == ("rate.exceeded", 0, 0)


def test_a_rate_never_admits_more_than_its_cap_in_any_window(ledger: Ledger, clock: FrozenClock) -> None:
    burst = rate(10)
    times: list[float] = []
    for n in range(400):
        clock.advance(0.7)
        if admit(ledger, entry(f"d{n}", burst)).verdict.authorized:
            times.append(n * 0.7)
    assert all(sum(1 for other in times if at <= other < at + 60) <= 10 for at in times)
    assert len(times) >= 400 * 0.7 / 65 * 10 * 0.9


def test_a_paced_rate_spaces_what_passes_evenly(ledger: Ledger, clock: FrozenClock) -> None:
    pace = Limit(name="pace", unit=Unit.RATE, cap=1, quota=60, window=Window("pacing", 60), cell="pace/p60-60")
    times: list[float] = []
    for n in range(50):
        clock.advance(0.3)
        if admit(ledger, entry(f"d{n}", pace)).verdict.authorized:
            times.append(n * 0.3)
    assert all(after - before >= 1 for before, after in pairwise(times))
    assert len(times) == 13
    refused = admit(ledger, entry("soon", pace)).verdict
    assert (refused.code, refused.retry_after) == ("rate.exceeded", 1)


def test_a_rate_of_what_is_admitted_does_not_count_a_refusal(ledger: Ledger) -> None:
    from msgspec.structs import replace

    some, budget = replace(rate(2), admitted=True), spend(500, TOTAL)
    for n in range(3):
        assert admit(ledger, entry(f"d{n}", some, verdict=DENY)).verdict.code == "policy.denied"
    assert admit(ledger, entry("big", some, budget, amount=900)).verdict.code == "spend.exceeded"
    assert used(ledger, some.cell) == 0
    codes = [admit(ledger, entry(f"a{n}", some)).verdict.code for n in range(3)]
    assert codes == ["policy.allowed", "policy.allowed", "rate.exceeded"]


def test_a_month_ends_with_its_last_day(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(100, Window("month", 0, "Europe/Amsterdam"))
    clock.at(1_796_079_599_000_000)  # 2026-11-30 23:59:59 in Amsterdam
    begun = entry("d1", budget, amount=100)
    held = admit(ledger, begun)
    assert admit(ledger, entry("d2", budget, amount=1)).verdict.retry_after == 1
    clock.advance(1)
    assert admit(ledger, entry("d3", budget, amount=100)).verdict.authorized
    ledger.commit(ending(begun, held, Settlement.RELEASE))
    assert used(ledger, budget.cell) == 100
    clock.advance(31 * 86400 - 1)
    assert not admit(ledger, entry("d4", budget, amount=1)).verdict.authorized


def test_a_rolling_spend_is_freed_only_after_its_window(ledger: Ledger, clock: FrozenClock) -> None:
    clock.at(60_000_000 * 720 + 59_000_000)
    budget = spend(100, HOUR)
    admit(ledger, entry("d1", budget, amount=100))
    clock.advance(3600)
    assert not admit(ledger, entry("d2", budget, amount=1)).verdict.authorized
    clock.advance(1)
    assert admit(ledger, entry("d3", budget, amount=100)).verdict.authorized


def test_idling_past_the_whole_ring_leaves_nothing_stale(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(1000, HOUR)
    for n in range(20):
        admit(ledger, entry(f"d{n}", budget, amount=50))
        clock.advance(150)
    clock.advance(3 * 3600)
    assert admit(ledger, entry("late", budget, amount=1000)).verdict.authorized
    assert used(ledger, budget.cell) == 1000


def test_a_day_ends_at_local_midnight(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(100, Window("day", 0, "Europe/Amsterdam"))
    clock.at(1_795_301_999_000_000)  # 2026-11-21 23:59:59 in Amsterdam
    assert admit(ledger, entry("d1", budget, amount=100)).verdict.authorized
    refused = admit(ledger, entry("d2", budget, amount=1)).verdict
    assert (refused.authorized, refused.retry_after) == (False, 1)
    clock.advance(1)
    assert admit(ledger, entry("d3", budget, amount=100)).verdict.authorized


def test_a_clock_that_runs_backwards_opens_no_second_budget(ledger: Ledger, clock: FrozenClock) -> None:
    limits = [spend(100, DAY, "day"), spend(100, HOUR, "hour"), rate(1)]
    for limit in limits:
        admit(ledger, entry(f"{limit.name}-1", limit, amount=100))
        clock.advance(-7200)
        refused = admit(ledger, entry(f"{limit.name}-2", limit, amount=1)).verdict
        assert not refused.authorized
        assert refused.retry_after >= 0


@pytest.mark.parametrize(
    ("settlement", "captured", "left"),
    [
        pytest.param(Settlement.CAPTURE, None, 1000, id="captured whole"),
        pytest.param(Settlement.CAPTURE, 400, 400, id="captured in part"),
        pytest.param(Settlement.CAPTURE, 0, 0, id="captured nothing"),
        pytest.param(Settlement.CAPTURE, 1700, 1700, id="overrun is booked over the cap"),
        pytest.param(Settlement.RELEASE, None, 0, id="released"),
        pytest.param(Settlement.UNKNOWN, None, 1000, id="unknown keeps the money counted"),
    ],
)
def test_an_outcome_settles_every_window(
    ledger: Ledger, settlement: Settlement, captured: int | None, left: int
) -> None:
    limits = [spend(1500, window, name) for name, window in (("d", DAY), ("t", TOTAL), ("h", HOUR))]
    begun = entry("d1", *limits, amount=1000)
    held = admit(ledger, begun)
    closed = ledger.commit(ending(begun, held, settlement, captured))
    assert closed == Closed(booked=True, state=settlement.value, receipt=closed.receipt)
    assert [used(ledger, limit.cell) for limit in limits] == [left] * 3
    assert list(ledger.holds()) == []
    assert kinds(ledger) == ["intent", "outcome"]


def test_an_outcome_counts_once(ledger: Ledger) -> None:
    budget = spend(1000, TOTAL)
    begun = entry("d1", budget, amount=600)
    other = entry("d2", budget, amount=400)
    held = admit(ledger, begun)
    admit(ledger, other)
    ledger.commit(ending(begun, held, Settlement.RELEASE))
    again = ledger.commit(ending(begun, held, Settlement.RELEASE))
    assert isinstance(again, Closed)
    assert (again.booked, again.receipt) == (False, None)
    assert used(ledger, budget.cell) == 400
    assert kinds(ledger) == ["intent", "intent", "outcome"]


def test_a_release_never_credits_a_later_window(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(1000, DAY)
    begun = entry("d1", budget, amount=600)
    held = admit(ledger, begun)
    clock.advance(86400)
    admit(ledger, entry("d2", budget, amount=700))
    ledger.commit(ending(begun, held, Settlement.RELEASE))
    assert used(ledger, budget.cell) == 700


def test_refusals_of_the_proven_are_recorded_and_of_strangers_counted(ledger: Ledger) -> None:
    admit(ledger, entry("d1", verdict=DENY))
    for n in range(5):
        admit(ledger, entry(f"s{n}", verdict=DENY, quiet=True, owner="anonymous"))
    assert kinds(ledger) == ["refusal"]


def test_a_dry_entry_tells_and_changes_nothing(ledger: Ledger) -> None:
    budget = spend(100, TOTAL)
    assert admit(ledger, entry("d1", budget, rate(5), amount=60, dry=True)).verdict.authorized
    assert admit(ledger, entry("d2", budget, amount=200, dry=True)).verdict.code == "spend.exceeded"
    assert used(ledger, budget.cell) == 0
    assert kinds(ledger) == []


def test_observing_charges_over_the_cap_and_says_so(ledger: Ledger) -> None:
    budget, burst = spend(100, TOTAL), rate(1)
    admit(ledger, entry("d1", budget, burst, amount=80, observe=True))
    held = admit(ledger, entry("d2", budget, burst, amount=80, observe=True))
    assert (held.verdict.authorized, held.verdict.code) == (False, "rate.exceeded")
    assert (used(ledger, budget.cell), used(ledger, burst.cell)) == (160, 2)
    assert kinds(ledger) == ["intent", "intent"]


def test_a_receipt_that_cannot_be_made_leaves_no_charge(ledger: Ledger) -> None:
    budget, burst = spend(1000, TOTAL), rate(5)
    bad = entry("d1", budget, burst, amount=500)
    from msgspec.structs import replace

    bad = replace(bad, record=lambda _: Draft("intent", bad.owner, {"id": "d1", "code": "\ud800"}))
    with pytest.raises(AFError):
        ledger.commit(bad)
    assert (used(ledger, budget.cell), used(ledger, burst.cell)) == (0, 0)
    assert admit(ledger, entry("d2", budget, amount=1000)).verdict.authorized


def test_threads_together_admit_exactly_the_cap(ledger: Ledger) -> None:
    budget = spend(10_000, TOTAL, per="global")
    admitted: list[str] = []

    def work(worker: int) -> None:
        for n in range(25):
            name = f"w{worker}-{n}"
            if admit(ledger, entry(name, budget, amount=100, owner=f"key:{worker}")).verdict.authorized:
                admitted.append(name)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 100
    assert used(ledger, budget.cell, "global") == 10_000
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert (report.status, report.checked, report.open) == ("unanchored", 200, 100)


def test_the_log_of_everything_verifies(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(1000, TOTAL)
    for n in range(30):
        clock.advance(-3 if n % 7 == 0 else 2)
        begun = entry(f"d{n}", budget, amount=90, owner=f"key:{n % 3}", verdict=DENY if n % 5 == 0 else ALLOW)
        held = admit(ledger, begun)
        if held.verdict.authorized and n % 4:
            ledger.commit(ending(begun, held, Settlement.RELEASE if n % 3 else Settlement.CAPTURE))
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert (report.status, report.code) == ("unanchored", "")
    assert report.checked == ledger.head().size > 30


def test_an_outcome_of_nothing_is_not_booked(ledger: Ledger) -> None:
    begun = entry("d1", amount=100)
    held = admit(ledger, begun)
    stray = ending(entry("never", amount=100), held)
    assert ledger.commit(stray) == Closed(booked=False)
    assert isinstance(stray.outcome, Outcome)
