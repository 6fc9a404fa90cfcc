"""Callers that no longer wait for their commit, and were not told that it is late: what was admitted is undone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.ledger.conftest import entry, spend
from tests.ledger.test_sqlite import TOTAL, held_lock, opened, run


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
            while (frame := frames()[own]).f_code.co_name != "wait" or frame.f_back.f_code.co_name != "result":
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
