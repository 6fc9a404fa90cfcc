"""Four processes that ask for one cap at the same time, and print how many requests of each were admitted."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from afmiddleware.fence import system_clock, undo
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Held, Limit, Window
from tests.ledger import servers
from tests.ledger.conftest import DENY, entry, rate, spend

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from afmiddleware.ledger.base import Ledger

PROCESSES, OFFERED, THREADS = 4, 400, 8


def opened(where: str, rates: str) -> Ledger:
    """The ledger at a folder or a URL, with rates in a Redis or without."""
    if where.startswith("postgresql"):
        return servers.postgres(where)
    counted = servers.rates(rates, cells=[limit("rate").cell]) if rates else None
    place = Location.of(Path(where) / "fence.db")
    return SqliteLedger(place, system_clock, undo, secret=servers.SECRET, deadline=60.0, rates=counted)


def limit(unit: str) -> Limit:
    """What they all ask for."""
    return spend(100, Window("total"), per="global") if unit == "spend" else rate(100, 3600, per="global")


def ask(ledger: Ledger, unit: str, name: int, start: Barrier, counts: multiprocessing.Queue[int]) -> None:
    """Offer a share of the requests once all are ready."""
    # What the ledger needs for its first commit is made before the others are waited for.
    ledger.commit(entry(f"{name}-first", owner=f"key:{name}", verdict=DENY))
    start.wait()

    def one(number: int) -> bool:
        held = ledger.commit(entry(f"{name}-{number}", limit(unit), amount=1, owner=f"key:{name}"))
        return isinstance(held, Held) and held.verdict.authorized

    with ThreadPoolExecutor(THREADS) as pool:
        counts.put(sum(pool.map(one, range(OFFERED // PROCESSES))))
    ledger.close()


def ask_anew(where: str, rates: str, unit: str, name: int, start: Barrier, counts: multiprocessing.Queue[int]) -> None:
    """The same in a process that opens the ledger itself."""
    ask(opened(where, rates), unit, name, start, counts)


def main(method: str, unit: str, where: str, rates: str) -> None:
    """Start them, by `fork` with a ledger that their parent has used, and wait."""
    multiprocessing.set_start_method(method)
    start = multiprocessing.Barrier(PROCESSES)
    counts: multiprocessing.Queue[int] = multiprocessing.Queue()
    ledger = opened(where, rates)
    ledger.commit(entry("parent", verdict=DENY))
    if method == "fork":
        running = [
            multiprocessing.Process(target=ask, args=(ledger, unit, name, start, counts)) for name in range(PROCESSES)
        ]
    else:
        running = [
            multiprocessing.Process(target=ask_anew, args=(where, rates, unit, name, start, counts))
            for name in range(PROCESSES)
        ]
    for one in running:
        one.start()
    sys.stdout.write(" ".join(str(counts.get(timeout=90)) for _ in running))
    for one in running:
        one.join()
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
