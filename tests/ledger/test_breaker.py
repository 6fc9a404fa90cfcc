"""Circuit breakers on every ledger: they open before the money moves, and stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.model import Entry, Held, Settlement
from tests.ledger.conftest import breaker, ending, entry

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

CELL = "breaker/day/USD"


def admit(ledger: Ledger, item: Entry) -> Held:
    held = ledger.commit(item)
    assert isinstance(held, Held)
    return held


def spent(ledger: Ledger) -> int:
    return ledger.rows(["global"])["global"].cells[CELL].total


def is_open(ledger: Ledger) -> bool:
    more = ledger.rows(["global"])["global"].more
    return more is not None and CELL in more.trips


def test_it_opens_on_what_would_be_spent_and_stays_open(ledger: Ledger, clock: FrozenClock) -> None:
    limit = breaker(1000)
    assert admit(ledger, entry("d1", limit, amount=900)).verdict.authorized
    tripping = admit(ledger, entry("d2", limit, amount=101)).verdict
    assert (tripping.authorized, tripping.code, tripping.limit) == (False, "breaker.open", "breaker")
    assert tripping.flags == ("tripped:breaker",)
    # What would have fitted a moment ago does not pass any more, nor does a new day close it.
    assert admit(ledger, entry("d3", limit, amount=1)).verdict.code == "breaker.open"
    clock.advance(2 * 86400)
    refused = admit(ledger, entry("d4", limit, amount=1)).verdict
    assert (refused.code, refused.retry_after, refused.flags) == ("breaker.open", 60, ())
    assert is_open(ledger)


def test_what_costs_nothing_passes_an_open_breaker_unless_told_otherwise(ledger: Ledger) -> None:
    limit = breaker(1000)
    admit(ledger, entry("d1", limit, amount=2000))
    assert admit(ledger, entry("free", limit, amount=0)).verdict.authorized
    strict = replace(limit, stops_free=True)
    assert admit(ledger, entry("strict", strict, amount=0)).verdict.code == "breaker.open"


def test_asking_does_not_open_it(ledger: Ledger) -> None:
    limit = breaker(1000)
    assert admit(ledger, entry("d1", limit, amount=2000, dry=True)).verdict.code == "breaker.open"
    assert admit(ledger, entry("d2", limit, amount=1000)).verdict.authorized


@pytest.mark.parametrize(("settlement", "closes"), [("capture", True), ("release", False), ("unknown", False)])
def test_a_probe_that_ends_well_closes_it(ledger: Ledger, clock: FrozenClock, settlement: str, closes: bool) -> None:
    limit = breaker(1000, half_open=300)
    tripping = admit(ledger, entry("d1", limit, amount=2000)).verdict
    assert tripping.retry_after == 300
    clock.advance(299)
    assert admit(ledger, entry("d2", limit, amount=1)).verdict.code == "breaker.open"
    clock.advance(1)
    assert admit(ledger, entry("big", limit, amount=1001)).verdict.code == "breaker.open"
    begun = entry("probe", limit, amount=100)
    held = admit(ledger, begun)
    assert (held.verdict.authorized, held.verdict.flags) == (True, ("probe:breaker",))
    # One at a time.
    assert admit(ledger, entry("d3", limit, amount=1)).verdict.code == "breaker.open"
    ledger.commit(ending(begun, held, Settlement(settlement)))
    assert is_open(ledger) is not closes
    after = admit(ledger, entry("d4", limit, amount=1)).verdict
    assert after.authorized is closes
    if not closes:
        assert after.retry_after == 300


def test_an_overrun_opens_it(ledger: Ledger) -> None:
    limit = breaker(1000)
    begun = entry("d1", limit, amount=900)
    held = admit(ledger, begun)
    ledger.commit(ending(begun, held, Settlement.CAPTURE, 1200))
    assert (spent(ledger), is_open(ledger)) == (1200, True)
    assert admit(ledger, entry("d2", limit, amount=1)).verdict.code == "breaker.open"


def test_an_alert_flags_and_lets_pass(ledger: Ledger) -> None:
    limit = replace(breaker(1000), on_exceed="alert")
    assert admit(ledger, entry("d1", limit, amount=900)).verdict.flags == ()
    over = admit(ledger, entry("d2", limit, amount=900)).verdict
    assert (over.authorized, over.flags) == (True, ("over:breaker",))
    assert (spent(ledger), is_open(ledger)) == (1800, False)
