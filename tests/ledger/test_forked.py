"""The first requests of a worker that was forked off with an open ledger, all at once."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.sqlite_forks import Forks
from afmiddleware.model import Held
from tests.ledger.conftest import crowd, entry
from tests.ledger.test_sqlite import admit, opened, run, whole

CHILDREN, THREADS = 60, 16
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_the_first_threads_of_a_forked_child_do_not_undo_each_others_beginning(tmp_path: Path) -> None:
    """Each found out by itself that it was forked: what one had begun the other made anew, and it was never written."""
    code = f"""
        import sys
        from pathlib import Path
        from tests.ledger.test_forked import in_children
        sys.exit(in_children(Path(sys.argv[1]), {CHILDREN}))
    """
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = opened(tmp_path)
    assert whole(ledger) == CHILDREN * THREADS
    ledger.close()


def test_what_a_child_commits_stays_when_its_parent_has_closed_the_file(tmp_path: Path) -> None:
    """It was not seen to have the file open: the write-ahead log was removed, and it went on writing there."""
    ledger, ours, its = opened(tmp_path), os.pipe(), os.pipe()
    admit(ledger, "parent")
    child = os.fork()
    if not child:
        admit(ledger, "child-1")
        os.write(ours[1], b"1")
        os.read(its[0], 1)
        os._exit(0 if admit(ledger, "child-2").verdict.authorized else 1)
    assert os.read(ours[0], 1) == b"1"
    ledger.close()
    os.write(its[1], b"1")
    assert os.waitpid(child, 0)[1] == 0
    ledger = opened(tmp_path)
    assert whole(ledger) == 3
    ledger.close()


def test_children_forked_off_while_the_parent_commits_can_commit(tmp_path: Path) -> None:
    """They took over the lock of the transaction that ran, and nobody gave it back."""
    ledger, ended, admitted = opened(tmp_path), threading.Event(), list[Held]()

    def commit() -> None:
        while not ended.is_set():
            admitted.append(admit(ledger, f"parent-{len(admitted)}", 1))

    thread = threading.Thread(target=commit)
    thread.start()
    children = list[int]()
    for number in range(10):
        begun = len(admitted)
        while len(admitted) == begun and thread.is_alive():
            ledger.head()
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if admit(ledger, f"child-{number}", 1).verdict.authorized else 2
            finally:
                os._exit(code)
        children.append(child)
    ended.set()
    thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    assert whole(ledger) == len(admitted) + 10
    ledger.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_child_has_nothing_open_of_its_parent_s(tmp_path: Path) -> None:
    """The lock of the turn would stay taken with it, had the parent been killed in a transaction."""
    ledger = opened(tmp_path)
    admit(ledger, "parent-1")
    assert len(_open_below(tmp_path)) == 4
    child = os.fork()
    if not child:
        os._exit(len(_open_below(tmp_path)))
    assert os.waitpid(child, 0)[1] == 0
    admit(ledger, "parent-2")
    assert whole(ledger) == 2
    ledger.close()


def test_a_child_of_a_parent_that_did_not_let_go_refuses(tmp_path: Path) -> None:
    forks, using, ended = Forks(patience=0.01), threading.Event(), threading.Event()

    def use() -> None:
        with forks.used():
            using.set()
            ended.wait()

    thread = threading.Thread(target=use)
    thread.start()
    using.wait()
    child = os.fork()
    if not child:
        code = 1
        try:
            with forks.used():
                pass
        except LedgerUnavailableError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    ended.set()
    thread.join()
    with forks.used() as count:
        assert count == 0
    child = os.fork()
    if not child:
        with forks.used() as count:
            os._exit(count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_writer_that_was_closed_for_a_fork_frees_its_slots_at_the_end(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.commit(entry("d1", crowd(1)))
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    ledger.close()
    ledger = opened(tmp_path)
    held = ledger.commit(entry("d2", crowd(1)))
    assert isinstance(held, Held)
    assert held.verdict.authorized
    ledger.close()


def _open_below(folder: Path) -> list[str]:
    found = list[str]()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(one.readlink()))
    return [one for one in found if one.startswith(str(folder))]


def in_children(folder: Path, children: int) -> int:
    """How many of forked children had a thread that failed."""
    ledger = opened(folder)
    failed = 0
    for number in range(children):
        child = os.fork()
        if not child:
            sys.setswitchinterval(1e-6)
            os._exit(_together(ledger, number))
        failed += os.waitpid(child, 0)[1] != 0
    ledger.close()
    return failed


def _together(ledger: object, number: int) -> int:
    gate, bad = threading.Barrier(THREADS), []

    def first(place: int) -> None:
        gate.wait()
        try:
            admit(ledger, f"c{number}-{place}", 1)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 (the child says so by its end)
            bad.append(error)

    threads = [threading.Thread(target=first, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(bad)
