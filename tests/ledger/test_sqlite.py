"""What the SQLite ledger does when its file, its key, its peers or its callers fail it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerError, LedgerUnavailableError, ReceiptError
from afmiddleware.fence import undo
from afmiddleware.ledger.anchor import AnchorFile
from afmiddleware.ledger.anchors import Anchors
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Held, Settlement, Window
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ending, entry, spend, sqlite
from tests.ledger.servers import SECRET

TOTAL = Window("total")


def opened(folder: Path, anchor: bool = False, secret: bytes | None = None) -> SqliteLedger:
    anchors = Anchors([AnchorFile(folder / "anchor.json")], 0) if anchor else None
    return SqliteLedger(Location.of(folder / "fence.db"), FrozenClock(), undo, anchors=anchors, secret=secret)


def admit(ledger: SqliteLedger, name: str, amount: int = 100, cap: int = 10_000) -> Held:
    held = ledger.commit(entry(name, spend(cap, TOTAL), amount=amount))
    assert isinstance(held, Held)
    return held


@contextmanager
def held_lock(folder: Path) -> Iterator[None]:
    """The turn of another process, for as long as the block."""
    fd = os.open(folder / "fence.db.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def whole(ledger: SqliteLedger) -> int:
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert report.code == ""
    return report.open


def test_what_was_committed_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    held = admit(first, "d1")
    first.close()
    again = opened(tmp_path)
    assert again.head().size == 1
    assert again.head().leaf == (held.receipt.leaf if held.receipt else b"")
    assert admit(again, "d2", 9_900).verdict.authorized
    assert not admit(again, "d3", 1).verdict.authorized
    again.close()


def test_a_key_is_made_with_a_new_log_and_never_over_an_old_one(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    admit(ledger, "d1")
    ledger.close()
    key = tmp_path / "fence.db.key"
    assert key.stat().st_mode & 0o777 == 0o600
    text = key.read_text()
    key.unlink()
    with pytest.raises(ReceiptError, match="restore it"):
        opened(tmp_path)
    assert not key.exists()
    key.write_text("00" * 32)
    with pytest.raises(ReceiptError, match="is not the one"):
        opened(tmp_path)
    key.write_text("nonsense")
    with pytest.raises(ReceiptError, match="cannot be read"):
        opened(tmp_path)
    key.write_text(text)
    opened(tmp_path).close()


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = opened(tmp_path)
        admit(ledger, "d1")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert {"fence.db", "fence.db-wal", "fence.db-shm", "fence.db.lock"} <= modes.keys()
        assert set(modes.values()) == {0o600}
        ledger.close()
        (tmp_path / "fence.db").chmod(0o640)
        opened(tmp_path).close()
        assert (tmp_path / "fence.db").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_tables_of_a_newer_release_are_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "fence.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(LedgerError, match="upgrade"):
        opened(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fence.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError):
        opened(tmp_path)


def test_an_old_copy_is_not_continued(tmp_path: Path) -> None:
    ledger = opened(tmp_path, anchor=True)
    admit(ledger, "d1")
    ledger.close()
    shutil.copy(tmp_path / "fence.db", tmp_path / "backup.db")
    ledger = opened(tmp_path, anchor=True)
    admit(ledger, "d2")
    ledger.close()
    shutil.copy(tmp_path / "backup.db", tmp_path / "fence.db")
    with pytest.raises(ReceiptError, match="has seen 2 receipts, the ledger has 1"):
        opened(tmp_path, anchor=True)


def test_a_database_that_is_replaced_under_it_is_not_written(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    admit(ledger, "d1")
    for name in ("fence.db", "fence.db-wal", "fence.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    other = tmp_path / "other"
    other.mkdir()
    opened(other).close()
    shutil.copy(other / "fence.db", tmp_path / "fence.db")
    with pytest.raises(LedgerUnavailableError):
        admit(ledger, "d2")
    with pytest.raises(LedgerUnavailableError):
        admit(ledger, "d3")
    ledger.close()


def test_a_peer_that_holds_the_turn_makes_it_unavailable_and_is_waited_out(tmp_path: Path) -> None:
    begun = entry("d1", spend(10_000, TOTAL), amount=100)
    with closing(sqlite(tmp_path, FrozenClock())) as first:
        held = first.commit(begun)
        assert isinstance(held, Held)
    ledger = sqlite(tmp_path, FrozenClock(), deadline=0.3)
    with held_lock(tmp_path):
        with pytest.raises(LedgerUnavailableError):
            admit(ledger, "d2")
        # An outcome that comes meanwhile is not lost.
        ledger.post(ending(begun, held, Settlement.RELEASE))
    patient = sqlite(tmp_path, FrozenClock())
    assert admit(patient, "d3").verdict.authorized
    patient.close()
    ledger.close()
    again = sqlite(tmp_path, FrozenClock())
    row = again.rows(["actor:key:a"])["actor:key:a"]
    # The refused one counts nothing, whether it was committed late and undone or never.
    assert row.cells["budget/total/USD"].total == 100
    assert [name for name, _ in again.holds()] == ["d3"]
    assert whole(again) == 1
    again.close()


@pytest.mark.anyio
async def test_a_stuck_commit_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path, FrozenClock())) as first:
        admit(first, "d1")
    ledger = sqlite(tmp_path, FrozenClock(), deadline=0.3)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    with held_lock(tmp_path), pytest.raises(LedgerUnavailableError):
        await ledger.acommit(entry("d2", spend(10_000, TOTAL), amount=100))
    ticking.cancel()
    assert turns > 100
    await asyncio.to_thread(ledger.close)


@pytest.mark.anyio
async def test_tasks_together_admit_exactly_the_cap(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path, FrozenClock())
    limit = spend(1000, TOTAL, per="global")
    answers = await asyncio.gather(
        *(ledger.acommit(entry(f"d{n}", limit, amount=10, owner=f"key:{n % 7}")) for n in range(200))
    )
    assert sum(isinstance(answer, Held) and answer.verdict.authorized for answer in answers) == 100
    await asyncio.to_thread(ledger.close)
    again = sqlite(tmp_path, FrozenClock())
    assert again.rows(["global"])["global"].cells["budget/total/USD"].total == 1000
    assert whole(again) == 100
    again.close()


@pytest.mark.anyio
async def test_an_admission_nobody_waits_for_is_given_back(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path, FrozenClock())
    with held_lock(tmp_path):
        entries = [entry(f"d{n}", spend(10_000, TOTAL), amount=100) for n in range(20)]
        tasks = [asyncio.create_task(ledger.acommit(one)) for one in entries]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks[::2], return_exceptions=True)
    await asyncio.gather(*tasks[1::2])
    await asyncio.to_thread(ledger.close)
    again = sqlite(tmp_path, FrozenClock())
    assert again.rows(["actor:key:a"])["actor:key:a"].cells["budget/total/USD"].total == 1000
    assert sorted(name for name, _ in again.holds()) == sorted(f"d{n}" for n in range(1, 20, 2))
    assert whole(again) == 10
    again.close()


def test_a_full_disk_refuses_whole_and_recovers(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from tests.ledger.test_sqlite import admit, opened, whole
        from afmiddleware.errors import LedgerUnavailableError
        ledger = opened(Path(sys.argv[1]))
        admit(ledger, "d0")
        size = sum(f.stat().st_size for f in Path(sys.argv[1]).iterdir())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        admitted = 1
        try:
            for n in range(1, 500):
                admit(ledger, f"d{n}", 1)
                admitted += 1
        except LedgerUnavailableError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert ledger.head().size == admitted, (ledger.head().size, admitted)
            admit(ledger, "after", 1)
            assert whole(ledger) == admitted + 1
            print("refused and recovered")
        ledger.close()
    """
    done = run(code, tmp_path)
    assert done.stdout == "refused and recovered\n", done.stderr


def test_a_forked_child_and_its_parent_both_commit(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from tests.ledger.test_sqlite import admit, opened, whole
        ledger = opened(Path(sys.argv[1]))
        admit(ledger, "parent-1")
        child = os.fork()
        if child == 0:
            admit(ledger, "child")
            ledger.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        admit(ledger, "parent-2")
        assert whole(ledger) == 3
        ledger.close()
        print("both")
    """
    done = run(code, tmp_path)
    assert done.stdout == "both\n", done.stderr


def test_processes_share_a_cap_and_one_chain(tmp_path: Path) -> None:
    opened(tmp_path, secret=SECRET).close()
    code = """
        import sys, threading
        from pathlib import Path
        from tests.ledger.test_sqlite import admit, sqlite
        from tests.ledger.conftest import entry, spend
        from afmiddleware.model import Window
        from afmiddleware.testing import FrozenClock
        ledger = sqlite(Path(sys.argv[1]), FrozenClock(), deadline=60)
        print("ready", flush=True)
        sys.stdin.readline()
        admitted = 0
        for n in range(100):
            held = ledger.commit(entry(f"{sys.argv[2]}-{n}", spend(10_000, Window("total"), per="global"), amount=50,
                                       owner="key:" + sys.argv[2]))
            admitted += held.verdict.authorized
        ledger.close()
        print(admitted, flush=True)
    """
    workers = [start(code, tmp_path, str(n)) for n in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    counts = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(counts) == 200
    assert min(counts) >= 5
    ledger = sqlite(tmp_path, FrozenClock())
    assert ledger.rows(["global"])["global"].cells["budget/total/USD"].total == 10_000
    assert whole(ledger) == 200
    ledger.close()


def test_an_unexpected_fault_in_one_batch_does_not_end_the_thread(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    broken = entry("d1", spend(10_000, TOTAL), amount=100)
    from msgspec.structs import replace

    with pytest.raises(LedgerUnavailableError):
        ledger.commit(replace(broken, record=lambda _: 1 / 0))
    assert admit(ledger, "d2").verdict.authorized
    assert whole(ledger) == 1
    ledger.close()


def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerUnavailableError):
        admit(ledger, "d1")
    assert threading.active_count() >= 1


def test_values_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    admit(ledger, "d1")
    ledger.close()
    with sqlite3.connect(tmp_path / "fence.db") as database:
        database.execute("UPDATE receipt SET disclosed = x'c1'")
    database.close()
    again = opened(tmp_path)
    report = verify(again.receipts(Filter()), again.head(), again.keys, None)
    assert (report.status, report.seq, report.code) == ("tampered", 1, "disclosure.mismatch")
    again.close()


def start(code: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder), *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["."])}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    worker = start(code, folder)
    out, err = worker.communicate(timeout=60)
    return subprocess.CompletedProcess(worker.args, worker.returncode, out, err)
