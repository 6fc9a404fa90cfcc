"""Giving back on every ledger: at most what was captured, to the windows that were charged, once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.errors import MoneyError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Closed, Entry, Held, Outcome, Settlement, Window
from afmiddleware.model.entry import Conclusion, Refund, Settle
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import verify
from tests.ledger.conftest import entry, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

DAY, LIFE = spend(100_000, Window("day"), "day"), spend(100_000, Window("total"), "life", per="global")
CAPTURE, RELEASE, UNKNOWN = Settlement.CAPTURE, Settlement.RELEASE, Settlement.UNKNOWN
KEY = "reference:one"


def book(ledger: Ledger, name: str = "b1", amount: int = 1000, key: str = KEY, captured: int | None = None) -> Entry:
    begun = entry(name, DAY, LIFE, amount=amount)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    assert held.verdict.authorized
    ledger.commit(Conclusion(name, Outcome(CAPTURE, captured=captured), reference=key))
    return begun


def ask(ledger: Ledger, name: str, amount: int = -1, owner: str = "key:a", key: str = KEY) -> None:
    """Admit an action that refunds what is called `key`."""
    begun = replace(entry(name, owner=owner), money=None, refund=Refund(key, amount, "USD", 2))
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    assert held.verdict.authorized


def end(ledger: Ledger, name: str, settlement: Settlement = CAPTURE, said: int | None = None, key: str = "") -> Closed:
    closed = ledger.commit(Conclusion(name, Outcome(settlement, captured=said), reference=key))
    assert isinstance(closed, Closed)
    return closed


def used(ledger: Ledger) -> tuple[int, int]:
    rows = ledger.rows(["actor:key:a", "global"])
    return rows["actor:key:a"].cells[DAY.cell].total, rows["global"].cells[LIFE.cell].total


def refunds(ledger: Ledger) -> list[tuple[str, str, str]]:
    bodies = [strict_parse(one.receipt.body) for one in ledger.receipts(Filter(kind="refund"))]
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert report.code == ""
    return [(str(body["by"]), str(body["refunded"]), str(body["captured"])) for body in bodies]


def test_what_was_captured_is_given_back_and_recorded(ledger: Ledger) -> None:
    book(ledger, captured=700)
    ask(ledger, "r1")
    assert used(ledger) == (700, 700)
    end(ledger, "r1")
    assert used(ledger) == (0, 0)
    assert refunds(ledger) == [("r1", "700", "0")]
    kinds = [one.columns["kind"] for one in ledger.receipts(Filter(decision="b1"))]
    assert kinds == ["intent", "outcome", "refund"]


def test_a_refund_is_given_back_once_however_often_its_end_is_told(ledger: Ledger) -> None:
    book(ledger)
    book(ledger, "b2", 50, key="reference:two")
    ask(ledger, "r1", 400)
    for _ in range(3):
        end(ledger, "r1")
        ledger.commit(Settle("r1", CAPTURE))
    assert used(ledger) == (650, 650)
    assert refunds(ledger) == [("r1", "400", "600")]


def test_many_refunds_at_once_give_back_no_more_than_was_captured(ledger: Ledger) -> None:
    book(ledger)
    book(ledger, "b2", 50, key="reference:two")
    for n in range(16):
        ask(ledger, f"r{n}", 300)
    gate = threading.Barrier(16)

    def run(n: int) -> None:
        gate.wait()
        end(ledger, f"r{n}")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(ledger) == (50, 50)
    assert sum(int(amount) for _, amount, _ in refunds(ledger)) == 1000


@pytest.mark.parametrize(("settlement", "left"), [(CAPTURE, 0), (RELEASE, 1000)])
def test_a_refund_in_doubt_is_given_back_when_it_is_settled(ledger: Ledger, settlement: Settlement, left: int) -> None:
    book(ledger)
    ask(ledger, "r1")
    end(ledger, "r1", UNKNOWN)
    assert used(ledger) == (1000, 1000)
    ledger.commit(Settle("r1", settlement, by="ops"))
    assert used(ledger) == (left, left)


def test_somebody_who_settles_a_refund_says_how_much_it_was(ledger: Ledger) -> None:
    book(ledger)
    ask(ledger, "r1")
    with pytest.raises((MoneyError, ValueError)):
        ledger.commit(Settle("r1", CAPTURE, "1.005"))
    ledger.commit(Settle("r1", CAPTURE, "2.50", "webhook"))
    assert used(ledger) == (750, 750)
    assert refunds(ledger) == [("r1", "250", "750")]


def test_nobody_is_given_back_what_another_spent(ledger: Ledger) -> None:
    book(ledger)
    ask(ledger, "r1", owner="key:b")
    end(ledger, "r1")
    assert used(ledger) == (1000, 1000)


def test_a_refund_that_was_asked_for_before_it_could_be_found_gives_back_nothing(ledger: Ledger) -> None:
    ask(ledger, "r1")
    book(ledger)
    end(ledger, "r1")
    assert used(ledger) == (1000, 1000)


def test_the_window_that_was_charged_is_credited_and_no_later_one(ledger: Ledger, clock: FrozenClock) -> None:
    book(ledger)
    clock.advance(86_400)
    book(ledger, "b2", 300, key="reference:two")
    ask(ledger, "r1")
    end(ledger, "r1")
    assert used(ledger) == (300, 300)


def test_each_part_of_an_overrun_goes_back_to_the_window_it_was_booked_in(ledger: Ledger, clock: FrozenClock) -> None:
    begun = entry("b1", DAY, LIFE, amount=1000)
    ledger.commit(begun)
    clock.advance(86_400)
    ledger.commit(Conclusion("b1", Outcome(CAPTURE, captured=1600), reference=KEY))
    assert used(ledger) == (600, 1600)
    ask(ledger, "r1", 700)
    end(ledger, "r1")
    # The last that was booked goes back first; of the day before nothing counts any more.
    assert used(ledger) == (0, 900)
    ask(ledger, "r2")
    end(ledger, "r2")
    assert used(ledger) == (0, 0)


def test_two_of_one_reference_cannot_be_told_apart(ledger: Ledger) -> None:
    book(ledger)
    book(ledger, "b2", 200)
    for name in ("r1", "r2"):
        ask(ledger, name)
        end(ledger, name)
    assert used(ledger) == (1200, 1200)


def test_a_reference_is_forgotten_after_a_month(ledger: Ledger, clock: FrozenClock) -> None:
    book(ledger)
    clock.advance(31 * 86_400)
    ask(ledger, "r1")
    end(ledger, "r1")
    assert ledger.rows(["global"])["global"].cells[LIFE.cell].total == 1000


def test_one_refund_told_under_two_decisions_counts_once(ledger: Ledger) -> None:
    book(ledger)
    for name in ("r1", "r2"):
        ask(ledger, name, 300)
        end(ledger, name, key="refunded:one")
    assert used(ledger) == (700, 700)
    assert refunds(ledger) == [("r1", "300", "700")]
