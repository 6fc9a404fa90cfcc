"""kill -9 at any moment: what was acknowledged is there, the log is whole, the counters are what the receipts say."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import sqlite
from tests.ledger.servers import SECRET

WORKER = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    from tests.ledger.conftest import ending, entry, rate, spend, sqlite
    from afmiddleware.model import Settlement, Window
    from afmiddleware.testing import FrozenClock
    ledger = sqlite(Path(sys.argv[1]), FrozenClock(), deadline=30)
    budget, burst, run = spend(10**9, Window("total"), per="global"), rate(10**6), sys.argv[2]
    lock = threading.Lock()

    def work(number):
        for n in range(10**6):
            begun = entry(f"{run}-{number}-{n}", budget, burst, amount=100, owner=f"key:{number}")
            held = ledger.commit(begun)
            with lock:
                print(held.receipt.seq, held.receipt.leaf.hex(), flush=True)
            if n % 3:
                settled = Settlement.RELEASE if n % 2 else Settlement.CAPTURE
                ledger.post(ending(begun, held, settled, None if n % 2 else 40))

    for number in range(4):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    threading.Event().wait()
    """
)


def crash(folder: Path, run: int, after: int) -> list[tuple[int, str]]:
    """Start a worker, kill it once it has acknowledged so many, and return what it acknowledged."""
    environment = {**os.environ, "PYTHONPATH": "."}
    command = [sys.executable, "-c", WORKER, str(folder), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(after)]
        worker.send_signal(signal.SIGKILL)
        lines += worker.stdout.read().splitlines(keepends=True)
    # A line that was cut off in the middle was not acknowledged.
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(int(seq), leaf) for seq, leaf in whole]


def check(folder: Path, acknowledged: list[tuple[int, str]]) -> None:
    ledger = sqlite(folder, FrozenClock())
    stored = list(ledger.receipts(Filter()))
    leaves = {one.receipt.seq: one.receipt.leaf.hex() for one in stored}
    assert [one for one in acknowledged if leaves.get(one[0]) != one[1]] == []
    report = verify(stored, ledger.head(), ledger.keys, None)
    assert (report.code, report.checked) == ("", len(stored))
    owed: dict[str, int] = {}
    for body in (strict_parse(one.receipt.body) for one in stored):
        owed[body["id"]] = 100 if body["kind"] == "intent" else int(body["captured"])
    assert ledger.rows(["global"])["global"].cells["budget/total/USD"].total == sum(owed.values())
    assert sum(1 for _ in ledger.holds()) == report.open
    ledger.close()


def crash_again_and_again(folder: Path, times: int) -> None:
    assert SECRET
    chance = random.Random(7)
    acknowledged: list[tuple[int, str]] = []
    for run in range(times):
        acknowledged += crash(folder, run, chance.randrange(1, 60))
        check(folder, acknowledged)


def test_ten_kills(tmp_path: Path) -> None:
    crash_again_and_again(tmp_path, 10)


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    crash_again_and_again(tmp_path, 200)
