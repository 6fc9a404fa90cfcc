"""The first requests of a worker that was forked off with an open ledger, all at once."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from tests.ledger.test_sqlite import admit, opened, run, whole

CHILDREN, THREADS = 60, 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
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
