"""What may be used once, over all that share a ledger."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger import memory
from afmiddleware.ledger.base import Filter
from afmiddleware.model.entry import Claim, Closed, Once
from tests.ledger.conftest import entry

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

MINUTE = 60_000_000


def use(ledger: Ledger, key: str = "dpop:one", keep: int = MINUTE) -> bool:
    answer = ledger.commit(Once(key, keep))
    assert isinstance(answer, Closed)
    return answer.booked


def test_only_the_first_use_is_booked_and_nothing_is_recorded(ledger: Ledger) -> None:
    assert [use(ledger), use(ledger), use(ledger, "dpop:other")] == [True, False, True]
    assert list(ledger.receipts(Filter())) == []


def test_after_its_time_it_may_be_used_again(ledger: Ledger, clock: FrozenClock) -> None:
    assert use(ledger)
    clock.advance(59.999999)
    assert not use(ledger)
    clock.advance(0.000001)
    assert use(ledger)
    assert not use(ledger)


def test_many_at_once_and_one_is_first(ledger: Ledger) -> None:
    threads: list[threading.Thread] = []
    seen: list[bool] = []
    gate = threading.Barrier(16)

    def run() -> None:
        gate.wait()
        seen.extend(use(ledger) for _ in range(20))

    for _ in range(16):
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert (seen.count(True), len(seen)) == (1, 320)


def test_it_is_no_idempotency_key_and_takes_no_room_of_theirs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from msgspec.structs import replace

    monkeypatch.setattr(memory, "MAX_CLAIMS", 3)
    for n in range(5):
        assert use(ledger, f"dpop:{n}")
    held = ledger.commit(replace(entry("d1"), claim=Claim("key-1", "f", MINUTE)))
    assert held.receipt is not None


def test_a_full_memory_refuses_and_forgets_what_is_over(
    monkeypatch: pytest.MonkeyPatch, clock: FrozenClock, tmp_path
) -> None:
    from tests.ledger.conftest import opened

    monkeypatch.setattr(memory, "MAX_USED", 3)
    with opened("memory", tmp_path, clock) as ledger:
        for n in range(3):
            assert use(ledger, f"dpop:{n}")
        with pytest.raises(LedgerUnavailableError):
            use(ledger, "dpop:4")
        clock.advance(60)
        assert use(ledger, "dpop:4")
