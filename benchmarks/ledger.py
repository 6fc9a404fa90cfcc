"""What a commit costs: alone and among others, on every ledger, with few actors and with many."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from afmiddleware.config.ledger_url import parse_postgres
from afmiddleware.errors import AFError
from afmiddleware.fence import system_clock, undo
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import (
    Charge,
    Conclusion,
    Draft,
    Entry,
    Limit,
    Money,
    Outcome,
    Settlement,
    Unit,
    Verdict,
    Window,
)
from afmiddleware.receipts.keys import ReceiptKeys

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

POSTGRES = os.environ.get("AFM_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
IN_FLIGHT = 64
_SECRET = bytes(range(32))
_ALLOW = Verdict(authorized=True, code="policy.allowed", capability="payments.pay", rule="allow[1]")


def _spend(name: str, kind: str, per: str, seconds: int = 0) -> Limit:
    return Limit(
        name=name,
        unit=Unit.SPEND,
        cap=10**12,
        window=Window(kind, seconds),
        per=per,
        currency="USD",
        exponent=2,
        cell=f"{name}/{kind}",
    )


_RATES = (
    Limit(name="burst", unit=Unit.RATE, cap=10**9, window=Window("rolling", 60), cell="burst/r60"),
    Limit(name="pace", unit=Unit.RATE, cap=10**6, quota=10**6, window=Window("pacing", 1), per="global", cell="pace/p"),
)
_SPENDS = (
    _spend("hour", "rolling", "actor", 3600),
    _spend("day", "day", "actor"),
    _spend("month", "month", "actor"),
    _spend("all", "day", "global"),
)


def _entry(actor: str) -> Entry:
    """An action of one actor under six limits, one of them the same for all."""
    name = secrets.token_hex(16)

    def key(limit: Limit) -> str:
        return "global" if limit.per == "global" else f"actor:{actor}"

    def record(_verdict: Verdict) -> Draft:
        body: dict[str, str] = {"id": name, "capability": "payments.pay", "verdict": "allow", "code": "policy.allowed"}
        return Draft("intent", actor, body, {"actor": actor, "payload": None})

    return Entry(
        id=name,
        owner=actor,
        verdict=_ALLOW,
        record=record,
        rates=tuple(Charge(limit, key(limit), 1) for limit in _RATES),
        spends=tuple(Charge(limit, key(limit), 100) for limit in _SPENDS),
        money=Money(100, "USD", 2),
        capability="payments.pay",
    )


async def _rate(ledger: Ledger, seconds: float, in_flight: int) -> float:
    """Commits a second with so many callers, each waiting for its own."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ledger.acommit(_entry(f"key:{number}"))
            done += 1

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    return done / seconds


def _durable(name: str, ledger: Ledger, seconds: float, table: Table) -> None:
    alone, together = [], []
    for _ in range(3):
        alone.append(asyncio.run(_rate(ledger, seconds / 6, 1)))
        together.append(asyncio.run(_rate(ledger, seconds / 6, IN_FLIGHT)))
    one, many = median(alone), median(together)
    table.add_row(name, f"{one:.0f}", f"{many:.0f}", f"{many / one:.1f}")


def _bytes_per_actor(actors: int, *, active: bool) -> float:
    """Bytes that one actor costs in memory: charged by one request long ago, or with a reservation that runs."""
    ledger = MemoryLedger(ReceiptKeys.derive(_SECRET), system_clock, os.urandom, kept=1, max_rows=10**7)
    ledger.commit(_entry("key:first"))
    gc.collect()
    before = _resident()
    for number in range(actors):
        item = _entry(f"key:{number}")
        ledger.commit(item)
        if not active:
            ledger.commit(Conclusion(item.id, Outcome(Settlement.CAPTURE)))
    gc.collect()
    return (_resident() - before) / actors


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _alone(actors: int, *, active: bool) -> float:
    """The same, in a process of its own."""
    code = f"from benchmarks.ledger import _bytes_per_actor as b; print(b({actors}, active={active}))"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _with_many_actors(actors: int, requests: int) -> float:
    """How much longer a commit takes beside so many actors than in an empty ledger."""
    keys = ReceiptKeys.derive(_SECRET)
    empty = MemoryLedger(keys, system_clock, os.urandom, kept=1)
    full = MemoryLedger(keys, system_clock, os.urandom, kept=1, max_rows=10**7)
    for number in range(actors):
        full.commit(_entry(f"key:{number}"))
    ratios: list[float] = []
    for turn in range(9):
        took: dict[bool, float] = {}
        for ledger in (empty, full) if turn % 2 else (full, empty):
            items = [_entry(f"key:{secrets.randbelow(100)}") for _ in range(requests)]
            start = time.process_time()
            for item in items:
                ledger.commit(item)
            took[ledger is full] = time.process_time() - start
        ratios.append(took[True] / took[False])
    return median(ratios)


def ledger(seconds: float, actors: int) -> None:
    """Print commits a second, alone and with 64 in flight, and what many actors cost."""
    console = Console()
    table = Table("ledger", "one in flight /s", f"{IN_FLIGHT} in flight /s", "ratio")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = SqliteLedger(Location.of(folder / "fence.db"), system_clock, undo, deadline=30)
        stack.callback(file.close)
        _durable("SQLite, FULL", file, seconds, table)
        try:
            _durable("PostgreSQL, a hot global limit", stack.enter_context(_postgres()), seconds, table)
        except (AFError, ImportError) as error:
            console.print(f"PostgreSQL is left out: {error}")
    console.print(table)
    idle, active = (_alone(actors, active=active) for active in (False, True))
    console.print(f"bytes per actor under six limits: {idle:.0f} without a reservation, {active:.0f} with one")
    console.print(f"a commit beside {actors} actors, against an empty ledger: {_with_many_actors(actors, 2000):.2f}")
    console.print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


class _postgres:  # noqa: N801 (a context manager)
    """A PostgreSQL ledger in a schema of its own, dropped at the end."""

    def __enter__(self) -> Ledger:
        from afmiddleware.ledger.postgres import PostgresLedger  # noqa: PLC0415 (an extra)

        self._schema = f"afm_bench_{secrets.token_hex(6)}"
        url = parse_postgres(f"{POSTGRES}?schema={self._schema}&timeout=30s")
        self._ledger = PostgresLedger(url, Path("unused"), undo, secret=_SECRET)
        return self._ledger

    def __exit__(self, *_: object) -> None:
        import psycopg  # noqa: PLC0415 (an extra)
        from psycopg import sql  # noqa: PLC0415

        self._ledger.close()
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(self._schema)))
