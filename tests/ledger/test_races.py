"""Many at once on one cap: threads, tasks, processes of either kind and keys in any order. Exactly the cap passes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from afmiddleware.ledger.base import Filter
from afmiddleware.limits.rows import More, Row
from afmiddleware.model import Entry, Held, Limit, Unit, Window
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger import racer
from tests.ledger.conftest import crowd, entry, opened, rate, spend
from tests.ledger.servers import schema, shared

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

ROOT = Path(__file__).parents[2]
TOTAL = Window("total")
POSTGRES = pytest.param("postgres", marks=pytest.mark.service("postgresql"))
REDIS = pytest.param("sqlite and redis", marks=pytest.mark.service("redis"))
LIMITS = {unit: racer.limit(unit) for unit in ("spend", "rate")}


@pytest.fixture
def quick() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def passed(held: object) -> bool:
    return isinstance(held, Held) and held.verdict.authorized


def check(ledger: Ledger, limit: Limit, admitted: int) -> None:
    """The counter and the receipts say the same as the answers."""
    assert ledger.rows(["global"])["global"].cells[limit.cell].total == admitted
    intents = [one for one in ledger.receipts(Filter(kind="intent")) if one.columns["code"] == "policy.allowed"]
    assert len(intents) == admitted
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert (report.code, report.open) == ("", admitted)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("unit", LIMITS)
def test_two_hundred_in_threads(ledger: Ledger, unit: str) -> None:
    limit = LIMITS[unit]
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(ledger.commit, entry(f"d{n}", limit, amount=1, owner=f"key:{n % 7}")) for n in range(200)]
        admitted = sum(passed(one.result()) for one in asked)
    assert admitted == 100
    check(ledger, limit, 100)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("unit", LIMITS)
@pytest.mark.parametrize("kind", ["memory", "sqlite", POSTGRES, REDIS])
def test_two_hundred_in_threads_fifty_times(kind: str, unit: str, tmp_path: Path) -> None:
    for turn in range(50):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with opened(kind, folder, FrozenClock()) as ledger:
            test_two_hundred_in_threads(ledger, unit)


@pytest.mark.anyio
@pytest.mark.parametrize("unit", LIMITS)
async def test_two_hundred_tasks_of_one_loop(ledger: Ledger, unit: str) -> None:
    limit = LIMITS[unit]

    async def ask(number: int) -> bool:
        await asyncio.sleep(0)
        return passed(await ledger.acommit(entry(f"d{number}", limit, amount=1, owner=f"key:{number % 7}")))

    assert sum(await asyncio.gather(*(ask(number) for number in range(200)))) == 100
    await asyncio.to_thread(check, ledger, limit, 100)


@pytest.mark.parametrize("unit", LIMITS)
@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "fork"])
@pytest.mark.parametrize("kind", ["sqlite", POSTGRES, REDIS])
def test_four_processes_share_a_cap_fairly(kind: str, method: str, unit: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        where = stack.enter_context(schema()) if kind == "postgres" else str(tmp_path)
        rates = stack.enter_context(shared()) if "redis" in kind else ""
        command = [sys.executable, "-m", "tests.ledger.racer", method, unit, where, rates]
        ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
        counts = [int(one) for one in ran.stdout.split()]
        assert (len(counts), sum(counts)) == (4, 100)
        assert min(counts) >= 5
        ledger = racer.opened(where, rates)
        stack.callback(ledger.close)
        check(ledger, LIMITS[unit], 100)


def six() -> dict[str, Limit]:
    pace = Limit(name="pace", unit=Unit.RATE, cap=50, quota=50, window=Window("pacing", 60), cell="pace/p60-50")
    return {
        "burst": rate(50),
        "pace": pace,
        "at-once": crowd(50),
        "day": spend(5000, Window("day"), "day"),
        "hour": spend(5000, Window("rolling", 3600), "hour"),
        "life": spend(5000, TOTAL, "life"),
    }


def images(ledger: Ledger, limits: dict[str, Limit]) -> dict[str, bytes]:
    """What is stored of each limit, byte for byte."""
    row = ledger.rows(["actor:key:a"]).get("actor:key:a", Row({}))
    busy = (row.more or More()).busy
    return {
        name: repr(busy.get(limit.cell)).encode()
        if limit.unit is Unit.CONCURRENT
        else msgspec.msgpack.encode(row.cells[limit.cell])
        for name, limit in limits.items()
    }


@pytest.mark.parametrize("tight", six())
def test_whichever_of_six_limits_is_tight_leaves_the_others_alone(ledger: Ledger, tight: str) -> None:
    limits = six()
    narrow = limits[tight]
    limits[tight] = replace(narrow, cap=5 if narrow.unit in (Unit.RATE, Unit.CONCURRENT) else 500)
    for n in range(5):
        assert passed(ledger.commit(entry(f"d{n}", *limits.values(), amount=100)))
    before = images(ledger, limits)
    for n in range(3):
        refused = ledger.commit(entry(f"over{n}", *limits.values(), amount=100))
        assert isinstance(refused, Held)
        assert refused.verdict.limit == tight
    after = images(ledger, limits)
    # Every judged request counts under the rates, but for the one that refuses it.
    counts = {"burst", "pace"} - {tight}
    assert {name for name in limits if after[name] != before[name]} == counts


def opposed(number: int) -> Entry:
    """Two actors and all of them together, named in the one order or the other."""
    limits = [spend(10**9, TOTAL, "ours", per="global"), spend(10**9, TOTAL, "mine"), rate(10**6, per="global")]
    made = entry(f"d{number}", *limits, amount=1, owner=f"key:{'ab'[number % 2]}")
    return made if number % 4 < 2 else _turned(made)


def _turned(made: Entry) -> Entry:
    return replace(made, spends=made.spends[::-1], rates=made.rates[::-1])


@pytest.fixture(params=["sqlite", POSTGRES, REDIS])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Opens the same ledger once more, with connections of its own."""
    with ExitStack() as stack:
        where = stack.enter_context(schema()) if request.param == "postgres" else str(tmp_path)
        rates = stack.enter_context(shared()) if "redis" in request.param else ""

        def open_it() -> Ledger:
            ledger = racer.opened(where, rates)
            stack.callback(ledger.close)
            return ledger

        yield open_it


def opposite_orders(another: Callable[[], Ledger], calls: int) -> None:
    ledgers = [another() for _ in range(16)]
    left = iter(range(calls))
    lock, admitted = threading.Lock(), []

    def work(ledger: Ledger) -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            admitted.append(passed(ledger.commit(opposed(number))))

    with ThreadPoolExecutor(32) as pool:
        for one in [pool.submit(work, ledger) for ledger in ledgers * 2]:
            one.result()
    assert admitted == [True] * calls
    rows = ledgers[0].rows(["global", "actor:key:a", "actor:key:b"])
    assert rows["global"].cells["ours/total/USD"].total == calls
    assert [rows[f"actor:key:{one}"].cells["mine/total/USD"].total for one in "ab"] == [calls // 2] * 2
    report = verify(ledgers[0].receipts(Filter()), ledgers[0].head(), ledgers[0].keys, None)
    assert (report.code, report.open) == ("", calls)


def test_keys_in_opposite_orders_on_sixteen_connections(another: Callable[[], Ledger]) -> None:
    opposite_orders(another, 400)


@pytest.mark.slow
def test_ten_thousand_calls_in_opposite_orders(another: Callable[[], Ledger]) -> None:
    opposite_orders(another, 10_000)


def hot(ledger: Ledger, limit: Limit, actors: int, each: int, cap: int) -> None:
    def ask(actor: int) -> int:
        items = [entry(f"{actor}-{n}", limit, amount=1, owner=f"key:{actor}") for n in range(each)]
        return sum(passed(ledger.commit(one)) for one in items)

    with ThreadPoolExecutor(actors) as pool:
        assert sum(pool.map(ask, range(actors))) == cap
    check(ledger, limit, cap)


@pytest.mark.parametrize("unit", LIMITS)
def test_fifty_actors_on_one_hot_counter(ledger: Ledger, unit: str) -> None:
    hot(ledger, LIMITS[unit], 50, 8, 100)


@pytest.mark.slow
@pytest.mark.parametrize("unit", LIMITS)
def test_five_thousand_requests_on_one_hot_counter(ledger: Ledger, unit: str) -> None:
    hot(ledger, replace(LIMITS[unit], cap=1000), 50, 100, 1000)
