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
from afmiddleware.ledger.chance import Ids
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
from benchmarks.ledger_full import beside_stored
from benchmarks.ledger_stores import PROCESSES, four_processes, redis_admit
from benchmarks.throughput import BARE, SQLITE, in_turns

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
_SLOTS = Limit(name="crowd", unit=Unit.CONCURRENT, cap=10**9, window=Window("running"), cell="crowd/c")
_SPENDS = (
    _spend("hour", "rolling", "actor", 3600),
    _spend("day", "day", "actor"),
    _spend("month", "month", "actor"),
    _spend("all", "day", "global"),
)


_ids = Ids()


def entry_of(actor: str) -> Entry:
    """An action of one actor under six limits, one of them the same for all."""
    name = _ids(system_clock())

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
            await ledger.acommit(entry_of(f"key:{number}"))
            done += 1

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    return done / seconds


def _durable(name: str, ledger: Ledger, seconds: float, table: Table) -> float:
    """How many times more commits a second many callers have than one."""
    alone, together = [], []
    for _ in range(3):
        alone.append(asyncio.run(_rate(ledger, seconds / 6, 1)))
        together.append(asyncio.run(_rate(ledger, seconds / 6, IN_FLIGHT)))
    one, many = median(alone), median(together)
    table.add_row(name, f"{one:.0f}", f"{many:.0f}")
    return many / one


def bytes_per_actor(actors: int, *, active: bool) -> float:
    """Bytes that one actor costs in memory: charged by one request long ago, or with a reservation that runs."""
    ledger = MemoryLedger(ReceiptKeys.derive(_SECRET), system_clock, os.urandom, kept=1, max_rows=10**7)
    ledger.commit(entry_of("key:first"))
    gc.collect()
    before = _resident()
    for number in range(actors):
        item = entry_of(f"key:{number}")
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
    code = f"from benchmarks.ledger import bytes_per_actor as b; print(b({actors}, active={active}))"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _with_many_actors(actors: int, requests: int) -> float:
    """How much longer a commit takes beside so many actors than in an empty ledger."""
    keys = ReceiptKeys.derive(_SECRET)
    empty = MemoryLedger(keys, system_clock, os.urandom, kept=1)
    full = MemoryLedger(keys, system_clock, os.urandom, kept=1, max_rows=10**7)
    for number in range(actors):
        full.commit(entry_of(f"key:{number}"))
    ratios: list[float] = []
    for turn in range(9):
        took: dict[bool, float] = {}
        for ledger in (empty, full) if turn % 2 else (full, empty):
            items = [entry_of(f"key:{secrets.randbelow(100)}") for _ in range(requests)]
            start = time.process_time()
            for item in items:
                ledger.commit(item)
            took[ledger is full] = time.process_time() - start
        ratios.append(took[True] / took[False])
    return median(ratios)


def ledger(seconds: float, actors: int, stored: int) -> None:
    """Print every row of the performance budget that is about a ledger: as a ratio, with its target."""
    console = Console()
    rates = Table("ledger", "one in flight /s", f"{IN_FLIGHT} in flight /s")
    table = Table("what", "measured", "target", "")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = SqliteLedger(Location.of(folder / "fence.db"), system_clock, undo, deadline=30)
        stack.callback(file.close)
        batched = _durable("SQLite, FULL", file, seconds, rates)
        _row(table, "SQLite (FULL), 64 in flight / one transaction a request", batched, at_least=6)
        other = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        late, whole = four_processes(other, seconds / 2)
        _row(table, f"SQLite, {PROCESSES} processes: p99 / (p50 x processes)", late, at_most=3)
        table.add_row("the same: log without a gap, counters equal to it", str(whole), "True", _met(whole))
        try:
            hot = _durable("PostgreSQL, a hot global limit", stack.enter_context(_postgres()), seconds, rates)
            _row(table, "PostgreSQL, one hot global limit, batched / one connection", hot, at_least=2)
        except (AFError, ImportError) as error:
            console.print(f"PostgreSQL is left out: {error}")
        try:
            plain, slot = redis_admit(entry_of, _SLOTS)
            _row(table, "Redis admit, one round trip: p50 / PING (a rate and a paced rate)", plain, at_most=1.8)
            _row(table, "the same with a slot", slot, at_most=1.8)
        except (AFError, ImportError, OSError) as error:
            console.print(f"Redis is left out: {error}")
    idle, active = (_alone(actors, active=active) for active in (False, True))
    _row(table, f"bytes per idle actor, of {actors}", idle, at_most=450)
    _row(table, "bytes per active actor", active, at_most=700)
    _row(table, f"a commit beside {actors} actors / in an empty ledger", _with_many_actors(actors, 2000), at_most=1.2)
    alone, together = beside_stored(entry_of, stored, actors, IN_FLIGHT, console)
    _row(table, f"SQLite, {stored} receipts of {actors} actors / an empty ledger", alone, at_most=1.2)
    _row(table, f"the same, {IN_FLIGHT} in flight", together, at_most=1.2)
    served = in_turns((BARE, SQLITE), 3 * seconds, IN_FLIGHT)
    share = served[SQLITE][0] / served[BARE][0]
    _row(table, f"uvicorn, {IN_FLIGHT} connections: a fenced app with SQLite / the bare one", share, at_least=0.5)
    console.print(rates)
    console.print(table)


def _row(table: Table, what: str, measured: float, at_least: float = 0, at_most: float = 0) -> None:
    met = measured >= at_least if at_least else measured <= at_most
    shown = f"{measured:.0f}" if measured > 100 else f"{measured:.2f}"
    table.add_row(what, shown, f">= {at_least}" if at_least else f"<= {at_most}", _met(met))


def _met(met: bool) -> str:  # noqa: FBT001 (it is the answer)
    return "met" if met else "missed"


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
