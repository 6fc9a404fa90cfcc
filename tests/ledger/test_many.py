"""One log for many at once: threads, event loops and processes; and one that is read while it grows."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware.ledger.base import Ledger
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Held
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ending, entry, opened, sqlite
from tests.ledger.servers import SECRET
from tests.ledger.test_sqlite import start

KEYS = ReceiptKeys.derive(SECRET)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
def durable(request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock) -> Iterator[Ledger]:
    with opened(request.param, tmp_path, clock) as ledger:
        yield ledger


def one_chain(ledger: Ledger, size: int) -> None:
    report = ReceiptLog(ledger, ledger.keys).verify()
    assert (report.code, report.checked) == ("", size)


def threads_commit(ledger: Ledger, threads: int, each: int) -> None:
    def work(number: int) -> None:
        for n in range(each):
            ledger.commit(entry(f"{number}-{n}", owner=f"key:{number}"))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    one_chain(ledger, threads * each)


def test_eight_threads_write_one_chain(durable: Ledger) -> None:
    threads_commit(durable, 8, 40)


@pytest.mark.slow
def test_eight_threads_of_a_thousand_write_one_chain(durable: Ledger) -> None:
    threads_commit(durable, 8, 1000)


def test_tasks_on_three_event_loops_write_one_chain(durable: Ledger) -> None:
    seqs: list[int] = []

    async def commit(name: str) -> None:
        held = await durable.acommit(entry(name, owner=f"key:{name[0]}"))
        assert isinstance(held, Held)
        assert held.receipt is not None
        seqs.append(held.receipt.seq)

    async def many(loop: int) -> None:
        await asyncio.gather(*(commit(f"{loop}-{n}") for n in range(86)))

    loops = [threading.Thread(target=lambda number=number: asyncio.run(many(number))) for number in range(3)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert sorted(seqs) == list(range(1, 3 * 86 + 1))
    one_chain(durable, 3 * 86)


@pytest.mark.slow
def test_four_processes_of_five_hundred_write_one_chain(tmp_path: Path) -> None:
    sqlite(tmp_path, FrozenClock()).close()
    code = """
        import sys
        from pathlib import Path
        from tests.ledger.conftest import entry, sqlite
        from afmiddleware.testing import FrozenClock
        ledger = sqlite(Path(sys.argv[1]), FrozenClock(), deadline=120)
        for n in range(500):
            ledger.commit(entry(f"{sys.argv[2]}-{n}", owner="key:" + sys.argv[2]))
        ledger.close()
    """
    workers = [start(code, tmp_path, str(number)) for number in range(4)]
    assert [(worker.communicate()[1], worker.returncode)[1] for worker in workers] == [0] * 4
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        one_chain(ledger, 2000)


CHECK = """
    import resource, sys
    from pathlib import Path
    from afmiddleware.ledger.log import ReceiptLog
    from afmiddleware.ledger.sqlite import SqliteReader
    from afmiddleware.ledger.sqlite_file import Location
    from afmiddleware.receipts.keys import ReceiptKeys
    from tests.ledger.servers import SECRET
    reader = SqliteReader(Location.of(Path(sys.argv[1]) / "fence.db"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20),) * 2)
    report = ReceiptLog(reader, ReceiptKeys.derive(SECRET)).verify()
    print(report.code or "ok", report.checked)
"""


def read_while_it_grows(folder: Path, size: int) -> None:
    """Checked in bounded memory by another process while somebody appends; the write-ahead log stays bounded too."""
    with closing(sqlite(folder, FrozenClock(), deadline=60)) as ledger:

        async def act(number: int) -> None:
            begun = entry(f"d{number:07}", owner=f"key:{number % 100}")
            held = await ledger.acommit(begun)
            assert isinstance(held, Held)
            await ledger.acommit(ending(begun, held))

        async def fill(first: int, last: int) -> None:
            # An intent and its outcome: what is open when nothing is running takes no memory.
            await asyncio.gather(*map(act, range(first, last, 2)))

        for first in range(0, size, 500):
            asyncio.run(fill(first, min(first + 500, size)))
        checking = start(CHECK, folder)
        more = largest = 0
        while checking.poll() is None:
            asyncio.run(fill(size + more, size + more + 50))
            more += 50
            largest = max(largest, (folder / "fence.db-wal").stat().st_size)
        out, err = checking.communicate()
        said, checked = out.split() if out else ("", "0")
        assert (said, int(checked) >= size) == ("ok", True), (out, err)
        assert 0 < largest < 64 << 20
        one_chain_reader(folder, size + more)


def one_chain_reader(folder: Path, size: int) -> None:
    with closing(SqliteReader(Location.of(folder / "fence.db"))) as reader:
        assert ReceiptLog(reader, KEYS).verify().checked == size


def test_a_log_is_checked_in_bounded_memory_while_it_grows(tmp_path: Path) -> None:
    read_while_it_grows(tmp_path, 1500)


@pytest.mark.slow
def test_a_million_receipts_are_checked_in_bounded_memory_while_more_are_written(tmp_path: Path) -> None:
    assert resource.RLIMIT_AS
    read_while_it_grows(tmp_path, 1_000_000)
