"""How many run at once, on every ledger; and what becomes of the slots of a process that is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.limits.rows import Row
from afmiddleware.model import Entry, Held, Settlement, Window
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import crowd, ending, entry, rate, spend, sqlite
from tests.ledger.servers import postgres, schema

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

TOTAL = Window("total")


def admit(ledger: Ledger, item: Entry) -> Held:
    held = ledger.commit(item)
    assert isinstance(held, Held)
    return held


@pytest.mark.parametrize("settlement", list(Settlement))
def test_as_many_run_as_may_and_each_end_frees_a_slot(ledger: Ledger, settlement: Settlement) -> None:
    two = crowd(2)
    begun = [entry(f"d{n}", two, amount=5) for n in range(3)]
    held = [admit(ledger, one) for one in begun]
    assert [one.verdict.code for one in held] == ["policy.allowed", "policy.allowed", "concurrency.exceeded"]
    assert (held[2].verdict.limit, held[2].verdict.retry_after) == ("at-once", 1)
    ledger.commit(ending(begun[0], held[0], settlement))
    again = ledger.commit(ending(begun[0], held[0], settlement))
    assert again.booked is False  # type: ignore[union-attr]
    codes = [admit(ledger, entry(f"e{n}", two)).verdict.code for n in range(2)]
    assert codes == ["policy.allowed", "concurrency.exceeded"]


def test_a_slot_and_money_are_taken_together_or_not_at_all(ledger: Ledger) -> None:
    one, budget, burst = crowd(1), spend(100, TOTAL), rate(10)
    assert admit(ledger, entry("d1", one, budget, burst, amount=500)).verdict.code == "spend.exceeded"
    begun = entry("d2", one, budget, burst, amount=50)
    held = admit(ledger, begun)
    assert held.verdict.authorized
    assert admit(ledger, entry("d3", one, budget, burst, amount=10)).verdict.code == "concurrency.exceeded"
    row = ledger.rows(["actor:key:a"])["actor:key:a"]
    assert (row.cells[budget.cell].total, row.cells[burst.cell].total) == (50, 3)
    ledger.commit(ending(begun, held))
    row = ledger.rows(["actor:key:a"])["actor:key:a"]
    assert (row.more, row.cells[budget.cell].total) == (None, 50)


def test_a_slot_that_all_callers_share_is_freed_at_the_end_of_its_request(ledger: Ledger) -> None:
    one = crowd(1, per="global")
    for n in range(3):
        begun = entry(f"d{n}", one)
        ledger.commit(ending(begun, admit(ledger, begun)))
    assert ledger.rows(["global"]).get("global") in (None, Row({}))


@pytest.mark.parametrize("amount", [40, 4000])
def test_a_trial_is_counted_as_judged_and_holds_nothing(ledger: Ledger, amount: int) -> None:
    one, budget, burst = crowd(1), spend(100, TOTAL), rate(10)
    tried = msgspec.structs.replace(entry("d1", one, budget, burst, amount=amount), trial=True)
    held = admit(ledger, tried)
    assert (held.verdict.authorized, held.receipt is not None) == (amount == 40, True)
    # Nothing stands in its slot, and its money was never taken.
    assert admit(ledger, entry("d2", one, budget, burst, amount=100)).verdict.code == "policy.allowed"
    assert ledger.commit(ending(tried, held)).booked is False  # type: ignore[union-attr]
    [balance] = admit(ledger, entry("d3", burst)).balances
    assert balance.used == 3


def test_no_slot_of_zero(ledger: Ledger) -> None:
    assert admit(ledger, entry("d1", crowd(0))).verdict.code == "concurrency.exceeded"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
def another(request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock) -> Iterator[Callable[[], Ledger]]:
    """Opens the same ledger once more, as another process does."""
    with ExitStack() as stack:
        url = stack.enter_context(schema()) if request.param == "postgres" else ""

        def open_it() -> Ledger:
            opened: Ledger = postgres(url, clock) if url else sqlite(tmp_path, clock)
            stack.callback(opened.close)
            return opened

        yield open_it


def test_a_process_that_is_not_heard_of_frees_its_slots(another: Callable[[], Ledger], clock: FrozenClock) -> None:
    gone, here = another(), another()
    three = crowd(3, per="global")
    begun = [entry(f"g{n}", three, owner="key:g") for n in range(2)]
    held = [admit(gone, one) for one in begun]
    clock.advance(15)
    admit(here, entry("h1", three))
    assert admit(here, entry("h2", three)).verdict.code == "concurrency.exceeded"
    clock.advance(14)
    assert admit(here, entry("h3", three)).verdict.code == "concurrency.exceeded"
    clock.advance(2)
    codes = [admit(here, entry(f"i{n}", three)).verdict.code for n in range(3)]
    assert codes == ["policy.allowed", "policy.allowed", "concurrency.exceeded"]
    # It was only stopped: what it ends now frees nobody else's slot.
    gone.commit(ending(begun[0], held[0]))
    assert admit(here, entry("j", three)).verdict.code == "concurrency.exceeded"


def test_a_process_that_does_anything_keeps_its_slots(another: Callable[[], Ledger], clock: FrozenClock) -> None:
    busy, here = another(), another()
    one = crowd(1, per="global")
    admit(busy, entry("g1", one))
    for n in range(6):
        clock.advance(15)
        admit(busy, entry(f"other{n}", spend(1000, TOTAL)))
        assert admit(here, entry(f"h{n}", one)).verdict.code == "concurrency.exceeded"


def test_a_process_with_nothing_to_write_keeps_its_slots(another: Callable[[], Ledger], clock: FrozenClock) -> None:
    quiet, here = another(), another()
    one = crowd(1, per="global")
    admit(quiet, entry("g1", one))
    committer = quiet._committer  # type: ignore[attr-defined]
    with committer._wake:
        committer._rests = 0.01
        committer._wake.notify()
    for n in range(3):
        clock.advance(25)
        lease = -1
        while lease < clock() + 20_000_000:
            lease = max(_leases(quiet))
        assert admit(here, entry(f"h{n}", one)).verdict.code == "concurrency.exceeded"


def _leases(ledger: Ledger) -> list[int]:
    from afmiddleware.ledger.sqlite import SqliteLedger

    query = "SELECT until FROM {}lease"
    if isinstance(ledger, SqliteLedger):
        with ledger._read() as connection:
            return [until for (until,) in connection.execute(query.format(""))]
    return [until for (until,) in ledger._all("SELECT until FROM {}.lease")]  # type: ignore[attr-defined]


def test_a_process_that_ends_frees_its_slots_at_once(another: Callable[[], Ledger]) -> None:
    ending_one, here = another(), another()
    one = crowd(1, per="global")
    admit(ending_one, entry("g1", one))
    assert admit(here, entry("h1", one)).verdict.code == "concurrency.exceeded"
    ending_one.close()
    assert admit(here, entry("h2", one)).verdict.authorized


def test_a_process_whose_writing_failed_keeps_its_slots(another: Callable[[], Ledger]) -> None:
    failing, here = another(), another()
    one = crowd(1, per="global")
    begun = entry("g1", one)
    held = admit(failing, begun)
    with pytest.raises(LedgerUnavailableError):
        failing.commit(msgspec.structs.replace(entry("g2"), record=lambda _: 1 // 0))
    assert admit(here, entry("h1", one)).verdict.code == "concurrency.exceeded"
    failing.commit(ending(begun, held))
    assert admit(here, entry("h2", one)).verdict.authorized
