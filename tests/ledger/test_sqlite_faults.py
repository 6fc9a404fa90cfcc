"""An SQLite ledger whose file is taken from it, and a peer that stops with the lock in its hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import sqlite
from tests.ledger.test_sqlite import admit, opened, whole

NOBODY = 65_534
FILES = ("fence.db", "fence.db-wal", "fence.db-shm")


def test_a_file_that_was_deleted_is_not_written_and_found_again(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as ledger:
        admit(ledger, "d1")
        aside = tmp_path / "aside"
        aside.mkdir()
        for name in FILES:
            (tmp_path / name).rename(aside / name)
        with pytest.raises(LedgerUnavailableError, match=r"fence\.db"):
            admit(ledger, "d2")
        assert not (tmp_path / "fence.db").exists()
        for name in FILES:
            (aside / name).rename(tmp_path / name)
        assert admit(ledger, "d3").verdict.authorized
        assert whole(ledger) == 2


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """As a user whom rights bind, which they do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    for parent in (folder, *folder.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_refuses_and_recovers(tmp_path: Path) -> None:
    opened(tmp_path).close()

    def rights(file_mode: int) -> None:
        for file in tmp_path.iterdir():
            os.chown(file, NOBODY if os.geteuid() == 0 else -1, -1)
            file.chmod(file_mode)

    rights(0o400)
    with (
        as_nobody(tmp_path),
        pytest.raises(AFError, match=r"fence\.(db|key)|cannot|unable"),
        closing(opened(tmp_path)) as ledger,
    ):
        admit(ledger, "d1")
    tmp_path.chmod(0o777)
    rights(0o600)
    with as_nobody(tmp_path), closing(opened(tmp_path)) as ledger:
        assert admit(ledger, "d2").verdict.authorized
        assert whole(ledger) == 1


def test_a_stopped_peer_with_the_lock_makes_it_unavailable_until_it_goes_on(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path, FrozenClock(), deadline=0.3)
    code = """
        import os, signal, sys, threading
        from pathlib import Path
        from afmiddleware.fence import system_clock, undo
        from afmiddleware.ledger.sqlite import SqliteLedger
        from afmiddleware.ledger.sqlite_file import Location
        from tests.ledger.servers import SECRET
        from tests.ledger.test_sqlite import admit

        stops = [signal.SIGSTOP]

        def stop(size):
            if threading.current_thread().name == "afmiddleware-ledger" and size != 8 and stops:
                print("stopping", flush=True)
                signal.pthread_kill(threading.get_ident(), stops.pop())
            return os.urandom(size)

        place = Location.of(Path(sys.argv[1]) / "fence.db")
        ledger = SqliteLedger(place, system_clock, undo, draw=stop, secret=SECRET, deadline=60)
        print(admit(ledger, "stopped").receipt.seq)
        ledger.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    peer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert peer.stdout is not None
    assert peer.stdout.readline() == "stopping\n"
    with pytest.raises(LedgerUnavailableError):
        admit(ledger, "d1")
    with pytest.raises(LedgerUnavailableError, match="holds the lock"):
        sqlite(tmp_path, FrozenClock(), deadline=0.1)
    with closing(ledger):
        peer.send_signal(signal.SIGCONT)
        out, err = peer.communicate(timeout=60)
        assert out.strip().isdigit(), err
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        assert admit(ledger, "d2").verdict.authorized
        assert sorted(name for name, _ in ledger.holds()) == ["d2", "stopped"]
        whole(ledger)
