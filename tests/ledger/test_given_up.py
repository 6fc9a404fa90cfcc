"""Callers that no longer wait for their commit, and were not told that it is late: what was admitted is undone."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.model.entry import Order
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, spend, sqlite
from tests.ledger.test_sqlite import TOTAL, admit, held_lock, opened, run


def test_a_signal_that_ends_the_wait_undoes_the_admission(tmp_path: Path) -> None:
    """A worker's or a task's time limit raises in the main thread, wherever that is."""
    code = """
        import os, signal, sys, threading
        from pathlib import Path
        from tests.ledger.test_given_up import counted
        from tests.ledger.test_sqlite import admit, held_lock, opened
        ledger = opened(Path(sys.argv[1]))
        admit(ledger, "before")

        class LimitError(Exception):
            pass

        def limit(*_):
            raise LimitError

        signal.signal(signal.SIGUSR1, limit)

        def send():
            frames, own = sys._current_frames, threading.main_thread().ident
            while (frame := frames()[own]).f_code.co_name != "wait" or frame.f_back.f_code.co_name != "commit":
                pass
            os.kill(os.getpid(), signal.SIGUSR1)

        with held_lock(Path(sys.argv[1])):
            threading.Thread(target=send).start()
            try:
                admit(ledger, "given up")
            except LimitError:
                print("raised")
        ledger.close()
        print(counted(Path(sys.argv[1])))
    """
    done = run(code, tmp_path)
    assert done.stdout == "raised\n100\n", done.stderr


def test_a_signal_that_raises_anywhere_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    code = """
        import random, signal, sys
        from pathlib import Path
        from tests.ledger.test_sqlite import admit, opened, whole
        ledger = opened(Path(sys.argv[1]))

        class LimitError(Exception):
            pass

        def limit(*_):
            raise LimitError

        signal.signal(signal.SIGALRM, limit)
        chance = random.Random(7)
        for number in range(4000):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.choice((1e-6, 1e-5, 3e-5, 1e-4, chance.random() * 2e-3)))
                admit(ledger, f"d{number}", 1)
                signal.setitimer(signal.ITIMER_REAL, 0)
            # The interpreter's own parts may find their locks open where they closed them.
            except (LimitError, RuntimeError):
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(admit(ledger, "after", 1).verdict.authorized)
        whole(ledger)
        ledger.close()
    """
    done = run(code, tmp_path)
    assert done.stdout == "True\n", done.stderr


def test_a_want_of_threads_refuses_and_ends(tmp_path: Path) -> None:
    """What was committed when no thread is left for the anchor was committed, and once."""
    code = """
        import resource, sys, threading
        from pathlib import Path
        from afmiddleware.errors import LedgerUnavailableError
        from afmiddleware.model.entry import Ping
        from tests.ledger.test_sqlite import admit, opened, whole

        class Few:
            # No thread can be begun in here: there is no room for the stack of one.
            def __enter__(self):
                self.size, self.limits = threading.stack_size(1 << 40), resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (1 << 39, self.limits[1]))

            def __exit__(self, *_):
                threading.stack_size(self.size)
                resource.setrlimit(resource.RLIMIT_AS, self.limits)

        folder = Path(sys.argv[1])
        ledger = opened(folder)
        with Few():
            try:
                admit(ledger, "d0")
            except LedgerUnavailableError as error:
                print("cannot begin" in str(error))
        admit(ledger, "d1")
        ledger.close()
        ledger = opened(folder, anchor=True)
        ledger.commit(Ping())
        with Few():
            print(admit(ledger, "d2").receipt.seq)
        print(admit(ledger, "d3").receipt.seq)
        whole(ledger)
        ledger.close()
        print((folder / "anchor.json").exists())
    """
    done = run(code, tmp_path)
    assert done.stdout == "True\n2\n3\nTrue\n", done.stdout + done.stderr


def test_a_coroutine_that_is_closed_undoes_its_admission(tmp_path: Path) -> None:
    ledger = opened(tmp_path)

    async def begin_and_close() -> None:
        asked = ledger.acommit(entry("given up", spend(10_000, TOTAL), amount=100))
        with held_lock(tmp_path):
            asked.send(None)
            asked.close()

    asyncio.run(begin_and_close())
    ledger.close()
    assert counted(tmp_path) == 0


def counted(folder: Path) -> int:
    """What counts of the budget in a ledger that was closed."""
    ledger = opened(folder)
    limit = spend(10_000, TOTAL)
    row = ledger.rows(["global", "actor:key:a"])
    ledger.close()
    return sum(one.cells[limit.cell].total for one in row.values() if limit.cell in one.cells)


def test_an_order_that_was_told_to_have_failed_is_not_carried_out_later(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path, FrozenClock(), deadline=0.3)
    order = Order(what="freeze", key="actor:key:a", by="ops")
    with held_lock(tmp_path):
        # The writer waits for the lock with this one, whatever comes behind it is in its next batch.
        ledger.post(entry("first", spend(10_000, TOTAL), amount=100))
        while ledger._committer._waiting:
            pass
        with pytest.raises(LedgerUnavailableError):
            ledger.commit(order)
    ledger.close()
    with closing(sqlite(tmp_path, FrozenClock())) as again:
        assert admit(again, "d1").verdict.authorized
        assert [one.columns["kind"] for one in again.receipts(Filter())] == ["intent"] * 2
