"""A clock that jumps forward opens no budget anew: nothing runs before it has proven to be right."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.steady import BELIEVED, SteadyClock
from afmiddleware.model import Held, Window
from afmiddleware.receipts.keys import ReceiptKeys
from tests.ledger.conftest import entry, spend, sqlite

SECOND = 1_000_000
DAY = 86_400
NOON = 1_795_262_400 * SECOND


class Host:
    """A host whose clock can be set, and on which time passes."""

    def __init__(self) -> None:
        self.up = 7 * SECOND
        self.set = NOON
        self.clock = SteadyClock(lambda: self.set + self.up, lambda: self.up)

    def wait(self, seconds: float) -> None:
        self.up += int(seconds * SECOND)

    def jump(self, seconds: int) -> None:
        self.set += seconds * SECOND


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_budget_does_not_begin_anew_when_the_clock_jumps_over_midnight_and_back(kind: str) -> None:
    host = Host()
    with tempfile.TemporaryDirectory() as folder:
        keys = ReceiptKeys.derive(bytes(32))
        ledger = MemoryLedger(keys, host.clock, bytes) if kind == "memory" else sqlite(Path(folder), host.clock)
        daily = spend(1000, Window("day"))

        def pay(name: str) -> str:
            host.wait(1)
            try:
                held = ledger.commit(entry(name, daily, amount=1000))
            except LedgerUnavailableError as error:
                return f"unavailable for {error.retry_after > 0}"
            assert isinstance(held, Held)
            return held.verdict.code

        assert pay("d1") == "policy.allowed"
        host.jump(DAY)
        assert [pay(f"e{n}") for n in range(3)] == ["unavailable for True"] * 3
        host.jump(-DAY)
        assert pay("d2") == "spend.exceeded"
        # Going back opens nothing either, and it is as of the day that was spent.
        host.jump(-3600)
        assert pay("d3") == "spend.exceeded"
        host.wait(14 * 3600)
        assert pay("d4") == "policy.allowed"
        ledger.close()


def test_it_is_believed_again_by_itself_when_it_has_run_evenly() -> None:
    host = Host()
    host.clock()
    host.jump(DAY)
    for _ in range(BELIEVED // SECOND):
        with pytest.raises(LedgerUnavailableError, match="this host has jumped ahead by 86400 s"):
            host.clock()
        host.wait(1)
    assert host.clock() == host.set + host.up


def test_one_that_keeps_jumping_is_not_believed() -> None:
    host = Host()
    host.clock()
    for _ in range(3 * BELIEVED // SECOND):
        host.jump(60)
        host.wait(1)
        with pytest.raises(LedgerUnavailableError):
            host.clock()
