"""What is of no use any more is dropped off the request path, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.model import Conclusion, Held, Outcome, Settlement, Window
from afmiddleware.model.entry import Claim, Settle
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, entry, opened, rate, spend

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
