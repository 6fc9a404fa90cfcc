"""An item that makes the writer fail, as no item should: it does not take others with it, nor come back for ever."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Conclusion, Outcome, Settlement
from tests.ledger.conftest import entry, spend
from tests.ledger.test_sqlite import TOTAL, admit, held_lock, opened, whole

UNWRITABLE: Any = Conclusion([], Outcome(Settlement.CAPTURE))  # type: ignore[arg-type]


def test_what_is_committed_with_it_is_committed(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    admit(ledger, "d0")
    told: list[str] = []

    def commit(name: str) -> None:
        one = entry(name, spend(10_000, TOTAL), amount=1)
        try:
            ledger.commit(one if name != "broken" else replace(one, record=lambda _: 1 / 0))
            told.append(name)
        except LedgerUnavailableError:
            told.append(f"{name} refused")

    threads = [threading.Thread(target=commit, args=(name,)) for name in ("d1", "d2", "broken", "d3")]
    with held_lock(tmp_path):
        ledger.post(entry("taken", spend(10_000, TOTAL), amount=1))
        # The writer has it, and waits for the lock: whatever comes now is its next batch.
        while ledger._committer._waiting:
            pass
        for thread in threads:
            thread.start()
        ledger.post(UNWRITABLE)
        while len(ledger._committer._waiting) < 5:
            pass
    for thread in threads:
        thread.join()
    assert sorted(told) == ["broken refused", "d1", "d2", "d3"]
    assert whole(ledger) == 5
    ledger.close()


def test_it_does_not_come_back(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for _ in range(3):
        ledger.post(UNWRITABLE)
    assert admit(ledger, "d1").verdict.authorized
    assert not ledger._committer._waiting
    assert [one.columns["decision"] for one in ledger.receipts(Filter())] == ["d1"]
    ledger.close()
