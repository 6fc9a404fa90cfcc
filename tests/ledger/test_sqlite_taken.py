"""Files of an SQLite ledger that are taken away, cut or replaced while processes have it open: one log, or none."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import sqlite
from tests.ledger.servers import SECRET
from tests.ledger.test_sqlite import admit, opened, start, whole

PEER = """
    import sys
    from pathlib import Path
    from afmiddleware.errors import AFError
    from afmiddleware.testing import FrozenClock
    from tests.ledger.test_sqlite import admit, sqlite

    ledger = sqlite(Path(sys.argv[1]), FrozenClock())
    for line in sys.stdin:
        try:
            told = admit(ledger, line.strip(), 1).receipt.leaf.hex()
        except AFError as error:
            told = str(error)
        print(told, flush=True)
    ledger.close()
    print("closed", flush=True)
"""


class Peer:
    """Another process with the ledger open."""

    def __init__(self, folder: Path) -> None:
        self.process = start(PEER, folder)

    def say(self, line: str) -> str:
        """Let it commit something; the leaf of its receipt, or why not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Let it close the ledger and end."""
        out, err = self.process.communicate(timeout=60)
        assert out == "closed\n", err


@contextmanager
def peers(folder: Path, count: int) -> Iterator[list[Peer]]:
    opened(folder, secret=SECRET).close()
    running = [Peer(folder) for _ in range(count)]
    try:
        yield running
    finally:
        for one in running:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGKILL)
                one.process.communicate()


def leaves(folder: Path) -> list[str]:
    """The leaves of a log that is whole."""
    with closing(sqlite(folder, FrozenClock())) as ledger:
        whole(ledger)
        return [one.receipt.leaf.hex() for one in ledger.receipts(Filter())]


@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm")])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_what_is_taken_away_beside_it_takes_nothing_with_it(
    tmp_path: Path, ends: tuple[str, ...], order: tuple[int, ...]
) -> None:
    with peers(tmp_path, 2) as running:
        told = [one.say(f"d{place}") for place, one in enumerate(running)]
        for end in ends:
            (tmp_path / f"fence.db{end}").unlink()
        told += [running[0].say("d2"), running[1].say("d3")]
        running.append(Peer(tmp_path))
        told += [running[place].say(f"e{place}") for place in order]
        told += [running[place].say(f"f{place}") for place in order]
        for place in order:
            running[place].end()
    assert leaves(tmp_path) == told


def test_what_a_command_commits_beside_an_idle_process_outlives_that(tmp_path: Path) -> None:
    with peers(tmp_path, 1) as (idle,):
        told = [idle.say("d1")]
        (tmp_path / "fence.db-shm").unlink()
        command = Peer(tmp_path)
        told.append(command.say("d2"))
        command.end()
        idle.end()
    assert leaves(tmp_path) == told


@pytest.mark.parametrize("end", ["", "-wal"])
def test_one_that_was_cut_is_not_continued(tmp_path: Path, end: str) -> None:
    with peers(tmp_path, 1) as (peer,):
        for number in range(20):
            assert len(peer.say(f"d{number}")) == 64
        os.truncate(tmp_path / f"fence.db{end}", 4096 if not end else 0)
        assert "fence.db" in peer.say("d20")
        assert "fence.db" in peer.say("d21")


def copy_of(folder: Path) -> Path:
    """A whole copy of a ledger that is open."""
    copy = folder / "copy.db"
    with closing(sqlite3.connect(folder / "fence.db")) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    return copy


def test_an_old_copy_that_somebody_has_continued_is_not_followed(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        admit(ledger, "d1")
        copy = copy_of(tmp_path)
        admit(ledger, "d2")
        for end in ("-wal", "-shm"):
            (tmp_path / f"fence.db{end}").unlink()
        copy.replace(tmp_path / "fence.db")
        other = Peer(tmp_path)
        assert [len(other.say(name)) for name in ("e1", "e2")] == [64, 64]
        other.end()
        with pytest.raises(LedgerUnavailableError, match="was replaced"):
            admit(ledger, "d3")
        for _ in range(2):
            with pytest.raises(LedgerUnavailableError, match="not the one that was acknowledged"):
                admit(ledger, "d4")


def test_a_copy_of_now_is_followed(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        admit(ledger, "d1")
        copy = copy_of(tmp_path)
        for end in ("-wal", "-shm"):
            (tmp_path / f"fence.db{end}").unlink()
        copy.replace(tmp_path / "fence.db")
        with pytest.raises(LedgerUnavailableError, match="was replaced"):
            admit(ledger, "refused")
        assert admit(ledger, "d2").verdict.authorized
        assert whole(ledger) == 2
