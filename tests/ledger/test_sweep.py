"""What is of no use any more is dropped off the request path, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.ledger.base import Filter
from afmiddleware.limits.select import Limits
from afmiddleware.model import (
    ActionEvent,
    Actor,
    Charge,
    Closed,
    Conclusion,
    Held,
    Money,
    Outcome,
    Settlement,
    Tier,
    Window,
)
from afmiddleware.model.entry import Claim, Entry, Keep, Refund, Settle
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, ending, entry, opened, rate, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

DAY = 86_400


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock) -> Iterator[Ledger]:
    with opened(request.param, tmp_path, clock) as made:
        yield made


def rest(ledger: Ledger, times: int = 3) -> None:
    committer = ledger._committer  # type: ignore[attr-defined]
    with committer._wake:
        committer._rests = 0.0
    for n in range(times):
        ledger.commit(Settle(f"tick{n}", Settlement.CAPTURE))
    with committer._wake:
        committer._rests = 10.0
    ledger.commit(Settle("tock", Settlement.CAPTURE))


def stranger(n: int) -> str:
    return f"address:{hashlib.sha256(bytes([n])).hexdigest()[:8]}/32"


def test_rows_whose_windows_are_long_over_are_dropped_and_live_ones_kept(ledger: Ledger, clock: FrozenClock) -> None:
    burst = rate(10)
    for n in range(30):
        item = entry(f"s{n}", burst, verdict=DENY, quiet=True, owner=stranger(n))
        ledger.commit(item)
    month, total, day = (
        spend(100, Window("month"), "month"),
        spend(500, Window("total"), "ever"),
        spend(50, Window("day"), "daily"),
    )
    ledger.commit(entry("d1", burst, month, total, day, amount=40))
    keys = [f"actor:{stranger(n)}" for n in range(30)]
    clock.advance(3600)
    rest(ledger)
    # Over, but a clock may yet be set back.
    assert len(ledger.rows(keys)) == 30
    clock.advance(2 * DAY)
    rest(ledger)
    assert ledger.rows(keys) == {}
    kept = ledger.rows(["actor:key:a"])["actor:key:a"]
    assert {name: cell.total for name, cell in kept.cells.items()} == {month.cell: 40, total.cell: 40}
    assert kept.oseq == 1
    assert not ledger.commit(entry("d2", month, amount=61)).verdict.authorized  # type: ignore[union-attr]
    assert ledger.commit(entry("d3", burst, day, total, amount=50)).verdict.authorized  # type: ignore[union-attr]


def test_settled_reservations_are_dropped_after_a_month_and_open_ones_never(ledger: Ledger, clock: FrozenClock) -> None:
    budget = spend(10_000, Window("total"))
    for name in ("done", "doubt", "open"):
        held = ledger.commit(entry(name, budget, amount=100))
        assert isinstance(held, Held)
    ledger.commit(Conclusion("done", Outcome(Settlement.CAPTURE)))
    ledger.commit(Conclusion("doubt", Outcome(Settlement.UNKNOWN)))
    clock.advance(29 * DAY)
    rest(ledger)
    assert ledger.commit(Settle("done", Settlement.RELEASE)).state == "capture"  # type: ignore[union-attr]
    clock.advance(2 * DAY)
    rest(ledger)
    assert ledger.commit(Settle("done", Settlement.RELEASE)).state == ""  # type: ignore[union-attr]
    assert [name for state in ("held", "unknown") for name, _ in ledger.holds(state)] == ["open", "doubt"]
    assert ledger.rows(["actor:key:a"])["actor:key:a"].cells[budget.cell].total == 300


def test_keys_are_dropped_after_their_time(ledger: Ledger, clock: FrozenClock) -> None:
    item = replace(entry("d1", rate(10)), claim=Claim("k", "f", DAY * 1_000_000))
    ledger.commit(item)
    ledger.commit(Conclusion("d1", Outcome(Settlement.CAPTURE)))
    assert claims(ledger) == 1
    clock.advance(DAY + 1)
    rest(ledger)
    assert claims(ledger) == 0


def claims(ledger: Ledger) -> int:
    from afmiddleware.ledger.sqlite import SqliteLedger

    if isinstance(ledger, SqliteLedger):
        with ledger._read() as connection:
            return int(connection.execute("SELECT count(*) FROM claim").fetchone()[0])
    return int(ledger._all("SELECT count(*) FROM {}.claim")[0][0])  # type: ignore[attr-defined]


def test_counters_of_sessions_go_after_these_and_those_that_an_issuer_names_never(
    ledger: Ledger, clock: FrozenClock
) -> None:
    """Every caller has a session of its own each day: they filled the ledger up."""
    limit = spend(100, Window("session"), "session", per="session")
    keys = {}
    for name in ("day:20778", "minted:00ff", "claim:s1"):
        actor = Actor(id="key:a", tier=Tier.TOKEN, session=name)
        event = ActionEvent(capability="payments.pay", actor=actor, amount=Money(40, "USD", 2))
        charges = Limits([limit]).spends(event)
        keys[name] = charges[0].key
        ledger.commit(replace(entry(name, amount=40), spends=charges))
    clock.advance(31 * DAY)
    rest(ledger)
    assert set(ledger.rows(list(keys.values()))) == set(keys.values())
    clock.advance(3 * DAY)
    rest(ledger)
    assert list(ledger.rows(list(keys.values()))) == [keys["claim:s1"]]


EACH = spend(100, Window("day"), "each", per="recipient")


def paid(name: str) -> Entry:
    """A payment that counts for its recipient alone, whose counter goes after its day."""
    return replace(entry(name, amount=40), spends=(Charge(EACH, "recipient:4=acme", 40),))


@pytest.mark.parametrize("captured", [None, 10, 90])
@pytest.mark.parametrize("settlement", [Settlement.RELEASE, Settlement.CAPTURE])
def test_what_is_settled_after_its_counter_was_dropped_is_settled(
    ledger: Ledger, clock: FrozenClock, settlement: Settlement, captured: int | None
) -> None:
    """It failed, and with it whatever was committed together with it, again and again where nobody waited for it."""
    begun = paid("d1")
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    clock.advance(3 * DAY)
    rest(ledger)
    assert ledger.rows(["recipient:4=acme"]) == {}
    ledger.post(ending(begun, held, settlement, captured))
    assert ledger.commit(Settle("d1", Settlement.RELEASE)) == Closed(booked=False, state=settlement)
    assert isinstance(ledger.commit(entry("d2", amount=1)), Held)


def test_what_is_over_at_its_deadline_after_its_counter_was_dropped_is_given_back(
    ledger: Ledger, clock: FrozenClock
) -> None:
    ledger.commit(replace(paid("d1"), on_expiry=Keep(4 * DAY * 1_000_000, "release")))
    clock.advance(3 * DAY)
    rest(ledger)
    assert ledger.rows(["recipient:4=acme"]) == {}
    clock.advance(2 * DAY)
    rest(ledger)
    assert [name for name, _ in ledger.holds("expired")] == ["d1"]


def test_a_refund_of_what_was_counted_in_a_dropped_counter_is_booked(ledger: Ledger, clock: FrozenClock) -> None:
    begun = paid("d1")
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    ledger.commit(replace(ending(begun, held), reference="ref:1"))
    clock.advance(3 * DAY)
    rest(ledger)
    back = replace(entry("d2"), money=None, refund=Refund("ref:1"))
    held = ledger.commit(back)
    assert isinstance(held, Held)
    ledger.post(ending(back, held))
    ledger.commit(Settle("nothing", Settlement.RELEASE))
    assert [one.columns["decision"] for one in ledger.receipts(Filter(kind="refund"))] == ["d1"]
