"""An SQLite ledger that has served for long, beside one that is empty."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.progress import MofNCompleteColumn, Progress

from afmiddleware.fence import system_clock, undo
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from afmiddleware.model import Entry

_AT_ONCE: Final = 1024
_ROUNDS: Final = 15


def beside_stored(
    entry: Callable[[str], Entry], stored: int, actors: int, in_flight: int, console: Console
) -> tuple[float, float]:
    """How many times longer a commit takes where so many actors have left so many receipts than in an empty ledger.

    Alone, and with so many in flight. Both ledgers are asked in turn, by every hundredth of the actors.
    """
    with tempfile.TemporaryDirectory() as folder:
        full, empty = (
            SqliteLedger(Location.of(Path(folder) / name), system_clock, undo, deadline=60)
            for name in ("full", "empty")
        )
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console, transient=True) as shown:
            task = shown.add_task("storing receipts", total=stored)
            for start in range(0, stored, 10 * _AT_ONCE):
                many = min(10 * _AT_ONCE, stored - start)
                names = [f"key:{number % actors}" for number in range(start, start + many)]
                _timed(full, [entry(name) for name in names], _AT_ONCE)
                shown.advance(task, many)
        found = []
        for flight, requests in ((1, 500), (in_flight, 4000)):
            ratios = []
            for turn in range(_ROUNDS):
                took: dict[bool, float] = {}
                for ledger in (empty, full) if turn % 2 else (full, empty):
                    names = [f"key:{(number * 7919) % max(1, actors // 100) * 100}" for number in range(requests)]
                    took[ledger is full] = _timed(ledger, [entry(name) for name in names], flight)
                ratios.append(took[True] / took[False])
            found.append(median(ratios))
        full.close()
        empty.close()
    return found[0], found[1]


def _timed(ledger: SqliteLedger, items: list[Entry], in_flight: int) -> float:
    """Seconds that it takes to commit the items, so many at a time."""
    waiting = iter(items)

    async def caller() -> None:
        for item in waiting:
            await ledger.acommit(item)

    async def all_of_them() -> None:
        await asyncio.gather(*(caller() for _ in range(in_flight)))

    start = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - start
