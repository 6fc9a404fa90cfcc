"""Disks, processes and clocks that fail: nothing that was acknowledged is lost, and nothing passes unrecorded."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteLedger, SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Held
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, sqlite
from tests.ledger.servers import SECRET, admin, postgres, schema
from tests.ledger.test_sqlite import start

KEYS = ReceiptKeys.derive(SECRET)


def acknowledged(folder: Path, *names: str) -> list[int]:
    with closing(sqlite(folder, FrozenClock())) as ledger:
        held = [ledger.commit(entry(name)) for name in names]
        return [one.receipt.seq for one in held if isinstance(one, Held) and one.receipt is not None]


def whole(folder: Path) -> int:
    with closing(SqliteReader(Location.of(folder / "fence.db"))) as reader:
        report = ReceiptLog(reader, KEYS).verify()
        assert report.code == "", report
        with reader._read() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return report.checked


POINTS = ["before BEGIN", "after the rows", "after the signature", "before COMMIT", "after COMMIT", "before the answer"]
WORKER = """
    import os, signal, sys
    from pathlib import Path
    import afmiddleware.ledger.committer as committer
    import afmiddleware.ledger.{kind}_writer as writer
    from afmiddleware.testing import FrozenClock
    from tests.ledger.conftest import entry, sqlite
    from tests.ledger.servers import postgres
    where, point, commits = sys.argv[1], sys.argv[2], 0

    def die():
        if commits == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(holder, name, before="", after=""):
        inner = getattr(holder, name)
        def wrapped(*args, **more):
            if point == before:
                die()
            found = inner(*args, **more)
            if point == after:
                die()
            return found
        setattr(holder, name, wrapped)

    one = writer.{Kind}Writer
    around(one, "_load", before="after BEGIN")
    around(one, "_store", after="before COMMIT")
    around(writer, "seal", before="after the rows", after="after the signature")
    around(one, "_transact", before="before BEGIN", after="after COMMIT")
    around(committer, "_deliver", before="before the answer")
    ledger = sqlite(Path(where), FrozenClock()) if "{kind}" == "sqlite" else postgres(where, FrozenClock())
    for number in range(6):
        commits += 1
        held = ledger.commit(entry(f"d{{number}}"))
        print(held.receipt.seq, flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_any_step_leaves_whole_commits(tmp_path: Path, kind: str, point: str) -> None:
    with schema() as url:
        code = textwrap.dedent(WORKER.format(kind=kind, Kind=kind.capitalize()))
        where = str(tmp_path) if kind == "sqlite" else url
        command = [sys.executable, "-c", code, where, point]
        ran = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        assert ran.stdout.split() == ["1", "2"]
        ledger = sqlite(tmp_path, FrozenClock()) if kind == "sqlite" else postgres(url, FrozenClock())
        with closing(ledger):
            # The third was not acknowledged: it is there whole, or not at all.
            there = 3 if point in ("after COMMIT", "before the answer") else 2
            held = ledger.commit(entry("next"))
            assert isinstance(held, Held)
            assert held.receipt is not None
            assert held.receipt.seq == there + 1
            report = ReceiptLog(ledger, KEYS).verify()
            assert (report.code, report.checked, report.open) == ("", there + 1, there + 1)


def test_a_log_cut_anywhere_in_its_last_frames_opens_at_a_commit(tmp_path: Path) -> None:
    """As after a crash of the host, for which the end of the write-ahead log was still on its way to the disk."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    ledger = sqlite(source, FrozenClock())
    sizes = []
    for number in range(4):
        ledger.commit(entry(f"d{number}"))
        sizes.append((source / "fence.db-wal").stat().st_size)
    files = {name: (source / name).read_bytes() for name in ("fence.db", "fence.db-wal", "fence.db.signing.pem")}
    ledger.close()
    frame = 24 + int.from_bytes(files["fence.db"][16:18], "big")
    wal = files["fence.db-wal"]
    assert sizes[-1] == len(wal)
    for length in range(len(wal) - 2 * frame, len(wal) + 1, 7):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name, data in files.items():
            (copy / name).write_bytes(data[:length] if name == "fence.db-wal" else data)
        # One commit is lost while any byte of its last frame is missing, and no other.
        assert whole(copy) == sum(size <= length for size in sizes)
    assert acknowledged(copy, "next") == [sum(size <= length for size in sizes) + 1]


def until_refused(ledger: SqliteLedger) -> int:
    """How many are acknowledged before there is no room."""
    for number in range(1000):
        try:
            ledger.commit(entry(f"n{number}"))
        except LedgerUnavailableError:
            return number
    raise AssertionError


def limited(folder: Path, pages: int) -> None:
    """The same as a full disk, for whoever may not make one."""
    ledger = sqlite(folder, FrozenClock())
    ledger.commit(entry("d0"))
    acked = 1
    writer = ledger._committer._open
    ledger._committer._open = lambda: _small(writer(), pages)
    ledger._committer.close()
    ledger._committer._reset()
    acked += until_refused(ledger)
    assert ledger.head().size == acked
    ledger._committer._open = writer
    held = ledger.commit(entry("after"))
    assert isinstance(held, Held)
    ledger.close()
    assert whole(folder) == acked + 1


def _small(writer: Any, pages: int) -> Any:
    writer._connection.execute(f"PRAGMA max_page_count = {pages}")
    return writer


def test_a_database_that_may_not_grow_refuses_whole_and_recovers(tmp_path: Path) -> None:
    limited(tmp_path, 40)


@contextmanager
def mounted(disk: Path, options: str) -> Iterator[Path]:
    """A file system of its own, in memory; the test is skipped where none may be mounted."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_file_system_refuses_whole_and_recovers(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=400k") as disk:
        ledger = sqlite(disk, FrozenClock())
        acked = until_refused(ledger)
        assert 0 < acked == ledger.head().size
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        ledger.commit(entry("after"))
        ledger.close()
        assert whole(disk) == acked + 1


SHIM = """
    #define _GNU_SOURCE
    #include <errno.h>
    #include <unistd.h>
    #include <stdlib.h>
    static int broken(void) { return access(getenv("BROKEN_DISK"), F_OK) == 0; }
    int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return 0; }
    int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return 0; }
"""


def test_a_disk_that_cannot_be_synced_acknowledges_nothing(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, and with it no disk that fails on demand")
    (tmp_path / "shim.c").write_text(textwrap.dedent(SHIM))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "shim.so", tmp_path / "shim.c"], check=True)
    code = """
        import os, sys
        from pathlib import Path
        from afmiddleware.errors import LedgerUnavailableError
        from tests.ledger.conftest import entry, sqlite
        from afmiddleware.testing import FrozenClock
        folder, broken = Path(sys.argv[1]), Path(os.environ["BROKEN_DISK"])
        ledger = sqlite(folder, FrozenClock())
        ledger.commit(entry("d0"))
        broken.touch()
        for name in ("d1", "d2"):
            try:
                ledger.commit(entry(name))
                print("acknowledged", name)
            except LedgerUnavailableError as error:
                print("refused", "I/O" in str(error))
        broken.unlink()
        ledger.commit(entry("d3"))
        print("acknowledged d3")
        ledger.close()
    """
    (tmp_path / "log").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": ".",
        "LD_PRELOAD": str(tmp_path / "shim.so"),
        "BROKEN_DISK": str(tmp_path / "broken"),
    }
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "log")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["refused True", "refused True", "acknowledged d3"], ran.stderr
    whole(tmp_path / "log")
    with closing(sqlite(tmp_path / "log", FrozenClock())) as ledger:
        # What was refused may have reached the disk in the end: then it is on record that it never ran.
        assert sorted(name for name, _ in ledger.holds()) == ["d0", "d3"]
        ended = [strict_parse(one.receipt.body) for one in ledger.receipts(Filter(kind="outcome"))]
        assert {one["end"] for one in ended} <= {"not_reached"}


def test_a_process_that_is_stopped_with_the_turn_is_waited_out(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tests.ledger.conftest import entry, sqlite
        from afmiddleware.ledger.sqlite_file import Queue
        from afmiddleware.testing import FrozenClock
        folder = Path(sys.argv[1])
        sqlite(folder, FrozenClock()).commit(entry("other"))
        with Queue(folder / "fence.db").turn():
            print("holding", flush=True)
            sys.stdin.readline()
    """
    assert acknowledged(tmp_path, "d0")
    with closing(sqlite(tmp_path, FrozenClock(), deadline=0.3)) as ledger:
        worker = start(code, tmp_path)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "holding\n"
        worker.send_signal(signal.SIGSTOP)
        with pytest.raises(LedgerUnavailableError):
            ledger.commit(entry("d1"))
        worker.send_signal(signal.SIGCONT)
        worker.communicate("go\n", timeout=60)
    assert acknowledged(tmp_path, "d2")
    whole(tmp_path)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
def test_a_log_whose_end_is_not_what_its_head_says_is_not_continued(tmp_path: Path, kind: str) -> None:
    """As a disk may leave it that lost what it said it had written."""
    with schema() as url:
        ledger = sqlite(tmp_path, FrozenClock()) if kind == "sqlite" else postgres(url, FrozenClock())
        with closing(ledger):
            ledger.commit(entry("d0"))
            ledger.commit(entry("d1"))
        if kind == "sqlite":
            with closing(sqlite3.connect(tmp_path / "fence.db")) as database, database:
                database.execute("UPDATE receipt SET body = x'7b7d' WHERE seq = 2")
        else:
            with admin() as connection:
                name = url.partition("schema=")[2].partition("&")[0]
                connection.execute(f'DELETE FROM "{name}".receipt WHERE seq = 2')
        again = sqlite(tmp_path, FrozenClock()) if kind == "sqlite" else postgres(url, FrozenClock())
        with closing(again):
            for name in ("d2", "d3"):
                with pytest.raises(LedgerUnavailableError, match="not what its head says"):
                    again.commit(entry(name))
            assert again.head().size == 2


@pytest.mark.parametrize("seconds", [-3600, 10 * 365 * 86400, 0.5])
def test_a_clock_that_jumps_leaves_a_log_in_order(ledger, clock: FrozenClock, seconds: float) -> None:
    ledger.commit(entry("d0"))
    clock.advance(seconds)
    ledger.commit(entry("d1"))
    clock.advance(-seconds)
    ledger.commit(entry("d2"))
    bodies = [one.columns["ts"] for one in ReceiptLog(ledger, ledger.keys)]
    assert bodies == sorted(bodies)
    set_back = [b'"clock_back":true' in one.receipt.body for one in ReceiptLog(ledger, ledger.keys)]
    assert set_back == ([False, True, False] if seconds < 0 else [False, False, True])
    assert ReceiptLog(ledger, ledger.keys).verify().code == ""
