"""Hosts with a ledger each that share one Redis, and what they are asked."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.model import Held, Limit
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, rate, sqlite
from tests.ledger.servers import rates

if TYPE_CHECKING:
    from afmiddleware.ledger.sqlite import SqliteLedger

BURST = rate(2)


class Hosts:
    """Hosts with a ledger each, and one Redis."""

    def __init__(self, folder: Path, url: str, clock: FrozenClock | None) -> None:
        self._folder, self._url, self._clock = folder, url, clock
        self._stack = ExitStack()

    def host(self, name: str = "one", clock: Any = None, url: str = "") -> SqliteLedger:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        shared = rates(url or self._url, self._clock)
        ledger = sqlite(folder, clock or self._clock or FrozenClock(), rates=shared)
        self._stack.callback(ledger.close)
        return ledger

    def close(self) -> None:
        self._stack.close()


def admit(ledger: SqliteLedger, name: str, *limits: Limit, **more: Any) -> str:
    """The code of the answer, or how long it is unavailable."""
    try:
        held = ledger.commit(entry(name, *(limits or (BURST,)), **more))
    except LedgerUnavailableError as error:
        return f"unavailable {error.retry_after}"
    assert isinstance(held, Held)
    return held.verdict.code


def until_back(ledger: SqliteLedger, *limits: Limit) -> str:
    """Ask until it answers anything but that a server is away."""
    for number in range(100_000):
        try:
            held = ledger.commit(entry(f"again{number}", *(limits or (BURST,))))
        except LedgerUnavailableError as error:
            if "lost" in str(error):
                return f"closed {error.retry_after}"
        else:
            assert isinstance(held, Held)
            return held.verdict.code
    raise AssertionError("it does not come back")


def used(ledger: SqliteLedger, limit: Limit = BURST, key: str = "actor:key:a") -> int:
    row = ledger.rows([key]).get(key)
    return row.cells[limit.cell].total if row is not None and limit.cell in row.cells else 0
