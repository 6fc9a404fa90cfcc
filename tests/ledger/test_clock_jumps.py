"""A clock that jumps: back it only counts longer, ahead nothing is admitted by it until it runs evenly."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.steady import Steady, SteadyClock
from afmiddleware.model import Held
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, rate, spend, sqlite
from tests.ledger.servers import SECRET, postgres, rates, schema, shared
from tests.ledger.test_contract import DAY

LIMITS = (rate(1, 86_400), spend(100, DAY))


class Host:
    """A host's clock of day, and the steady one beside it."""

    def __init__(self) -> None:
        self.day = FrozenClock()
        self.up = 0

    def pass_(self, seconds: float) -> None:
        self.day.advance(seconds)
        self.up += int(seconds * 1_000_000)

    def steady(self) -> int:
        return self.up


@pytest.fixture
def host() -> Host:
    return Host()


def ask(ledger, name: str) -> str:
    try:
        held = ledger.commit(entry(name, *LIMITS, amount=100))
    except LedgerUnavailableError as error:
        return f"unavailable {error.retry_after}" if "jumped ahead" in str(error) else str(error)
    assert isinstance(held, Held)
    return held.verdict.code


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_host_whose_clock_jumps(kind: str, host: Host, tmp_path: Path) -> None:
    clock = SteadyClock(host.day, host.steady)
    ledger = sqlite(tmp_path, clock) if kind == "sqlite" else MemoryLedger(ReceiptKeys.derive(SECRET), clock, bytes)
    with closing(ledger):
        assert ask(ledger, "d1") == "policy.allowed"
        host.day.advance(86_400)
        assert ask(ledger, "ahead") == "unavailable 30"
        host.pass_(20)
        assert ask(ledger, "ahead-2") == "unavailable 10"
        host.day.advance(-86_400)
        assert ask(ledger, "corrected") == "rate.exceeded"
        host.day.advance(-7200)
        assert ask(ledger, "behind") == "rate.exceeded"
        # Ahead of where it was just now, though not of where it has been: on doubt nothing runs.
        host.day.advance(7200)
        assert ask(ledger, "there-again") == "unavailable 30"
        host.pass_(31)
        assert ask(ledger, "believed") == "rate.exceeded"


def test_what_runs_evenly_at_its_new_time_is_believed(host: Host) -> None:
    held = Steady("x", host.steady)
    held.check(host.day())
    host.pass_(3600)
    held.check(host.day())
    host.day.advance(60)
    for _ in range(6):
        with pytest.raises(LedgerUnavailableError):
            held.check(host.day())
        host.pass_(5)
    held.check(host.day())
    # A clock that jumps on and on is never believed.
    for _ in range(20):
        host.day.advance(60)
        host.pass_(20)
        with pytest.raises(LedgerUnavailableError):
            held.check(host.day())


def test_small_steps_are_followed(host: Host) -> None:
    held = Steady("x", host.steady)
    for _ in range(100):
        host.day.advance(4)
        host.pass_(1)
        held.check(host.day())
    assert held.latest() == host.day() + 5_000_000


@pytest.mark.service("postgresql")
def test_a_database_whose_clock_jumps() -> None:
    with schema() as url, closing(postgres(url)) as ledger:
        assert ask(ledger, "d1") == "policy.allowed"
        held = ledger._seen.steady
        assert held is not None
        assert held._offset is not None
        # This host knows of an hour less than the database says has passed.
        held._offset -= 3_600_000_000
        assert ask(ledger, "ahead") == "unavailable 30"
        held._offset += 3_600_000_000
        assert ask(ledger, "corrected") == "rate.exceeded"


@pytest.mark.service("redis")
def test_a_redis_whose_clock_jumps(tmp_path: Path) -> None:
    with shared() as url:
        told = rates(url)
        with closing(sqlite(tmp_path, FrozenClock(), rates=told)) as ledger:
            assert ask(ledger, "d1") == "policy.allowed"
            held = told._steady
            assert held._offset is not None
            held._offset -= 3_600_000_000
            assert ask(ledger, "ahead") == "unavailable 30"
            assert ledger.rows(["actor:key:a"])["actor:key:a"].cells[LIMITS[0].cell].total == 1
            held._offset += 3_600_000_000
            assert ask(ledger, "corrected") == "rate.exceeded"
