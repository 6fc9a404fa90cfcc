"""Stores that several processes share: SQLite under four of them, and Redis beside a ping."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from afmiddleware.config.ledger_url import parse_redis
from afmiddleware.fence import system_clock, undo
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Charge
from afmiddleware.receipts.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model import Entry, Limit

REDIS = os.environ.get("AFM_TEST_REDIS", "redis://127.0.0.1:6379/0")
PROCESSES = 4


def commits(folder: str, seconds: float) -> None:
    """What each process does: commit one request after another, and print how long each took and how many passed."""
    from benchmarks.ledger import entry_of  # noqa: PLC0415 (which imports this file)

    ledger = SqliteLedger(Location.of(Path(folder) / "fence.db"), system_clock, undo, deadline=30)
    name = f"key:{os.getpid()}"

    async def work() -> list[int]:
        took = []
        await ledger.acommit(entry_of(name))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter_ns()
            await ledger.acommit(entry_of(name))
            took.append(time.perf_counter_ns() - start)
        return took

    took = asyncio.run(work())
    ledger.close()
    print(json.dumps(took))


def four_processes(folder: Path, seconds: float) -> tuple[float, bool]:
    """How many times p50 x processes the p99 of a commit is, and whether the log and the counters are whole."""
    SqliteLedger(Location.of(folder / "fence.db"), system_clock, undo).close()
    code = f"from benchmarks.ledger_stores import commits; commits({str(folder)!r}, {seconds})"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    took = [json.loads(one.communicate()[0]) for one in started]
    every = sorted(one for each in took for one in each)
    ledger = SqliteLedger(Location.of(folder / "fence.db"), system_clock, undo)
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    count = len(every) + PROCESSES
    spent = ledger.rows(["global"])["global"].cells["all/day"].total
    ledger.close()
    whole = not report.code and report.checked == count and spent == 100 * count and all(took)
    return quantiles(every, n=100)[98] / (median(every) * PROCESSES), whole


def redis_admit(entry: Callable[[str], Entry], slots: Limit, rounds: int = 15, calls: int = 300) -> tuple[float, float]:
    """p50 of counting a request's two rates, without and with a slot, against p50 of a ping by the same client."""
    import redis  # noqa: PLC0415 (an extra)
    from msgspec.structs import replace  # noqa: PLC0415

    from afmiddleware.ledger.redis_rates import Rates  # noqa: PLC0415 (an extra)

    prefix = f"afm_bench_{secrets.token_hex(6)}"
    rates = Rates(parse_redis(f"{REDIS}?prefix={prefix}&timeout=5s"), os.urandom)
    client = redis.Redis.from_url(REDIS)
    rates.settle("")
    plain = entry("key:1")
    ratios: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        ping = _p50([client.ping] * calls)
        for found, slot in zip(ratios, (False, True), strict=True):
            taken = (Charge(slots, "actor:key:1", 1),) if slot else ()
            items = [replace(plain, id=secrets.token_hex(16), slots=taken) for _ in range(calls)]
            found.append(_p50([partial(rates.count, [(False, (item,))]) for item in items]) / ping)
    rates.close()
    for key in client.scan_iter(f"{prefix}:*"):
        client.delete(key)
    return median(ratios[0]), median(ratios[1])


def _p50(calls: Sequence[Callable[[], object]]) -> float:
    took = []
    for call in calls:
        start = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - start)
    return median(took)
