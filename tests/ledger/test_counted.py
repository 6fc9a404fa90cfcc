"""Refusals of callers without a good credential: counted, and told where when somebody asks for their decision."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from afmiddleware.ledger.base import Filter, Ledger
from afmiddleware.ledger.chance import Ids
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import Report
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, entry


def turn_away(ledger: Ledger, clock: FrozenClock) -> str:
    decision = Ids()(clock())
    ledger.commit(entry(decision, verdict=DENY, quiet=True, owner="anonymous"))
    return decision


def counts(ledger: Ledger) -> list[int]:
    found = [strict_parse(one.receipt.body) for one in ledger.receipts(Filter(kind="aggregate"))]
    return [sum(one["n"] for one in body["counts"]) for body in found]


def wait(ledger: Ledger, done: Callable[[], bool]) -> None:
    """Let the writer thread look after what is due, without anything to commit."""
    committer = getattr(ledger, "_committer", None)
    if committer is not None:
        with committer._wake:
            committer._rests = 0.01
            committer._wake.notify()
    while not done():
        pass


def test_they_are_recorded_though_nothing_else_is_committed(ledger: Ledger, clock: FrozenClock) -> None:
    decisions = [turn_away(ledger, clock) for _ in range(3)]
    log = ReceiptLog(ledger, ledger.keys)
    assert counts(ledger) == []
    assert log.is_counted_soon(decisions[0], clock())
    clock.advance(11)
    wait(ledger, lambda: len(log) > 0)
    assert counts(ledger) == [3]
    for decision in decisions:
        assert log.decision(decision) == []
        assert [one.receipt.seq for one in log.counted(decision)] == [1]
    clock.advance(100)
    assert log.counted(Ids()(clock())) == []
    assert not log.is_counted_soon(decisions[0], clock())
    assert log.counted("d1") == log.counted("z" * 32) == log.counted("") == []
    report: Report = log.verify()
    assert report.code == ""


def test_each_window_has_its_own_record(ledger: Ledger, clock: FrozenClock) -> None:
    first = turn_away(ledger, clock)
    clock.advance(10)
    second = [turn_away(ledger, clock), turn_away(ledger, clock)]
    clock.advance(11)
    log = ReceiptLog(ledger, ledger.keys)
    wait(ledger, lambda: sum(counts(ledger)) == 3)
    assert counts(ledger) == [1, 2]
    (one,), (other,) = log.counted(first), log.counted(second[0])
    assert log.counted(second[1]) == [other]
    body, next_body = strict_parse(one.receipt.body), strict_parse(other.receipt.body)
    assert body["until"] == body["since"] + 10_000_000 == next_body["since"]
    assert body["since"] <= int(first[:14], 16) < body["until"]


def test_an_id_that_tells_no_time_or_a_strange_one_is_counted_now(ledger: Ledger, clock: FrozenClock) -> None:
    for name in ("d1", "f" * 32, "0" * 32):
        ledger.commit(entry(name, verdict=DENY, quiet=True, owner="anonymous"))
    clock.advance(11)
    wait(ledger, lambda: sum(counts(ledger)) == 3)
    assert counts(ledger) == [3]


def test_they_are_recorded_at_the_end(tmp_path, clock: FrozenClock) -> None:
    from tests.ledger.conftest import sqlite

    ledger = sqlite(tmp_path, clock)
    turn_away(ledger, clock)
    ledger.close()
    again = sqlite(tmp_path, clock)
    assert counts(again) == [1]
    again.close()


@pytest.mark.parametrize("seconds", [3, 30])
def test_a_forked_child_does_not_record_what_its_parent_does(tmp_path, seconds: int) -> None:
    from tests.ledger.test_sqlite import run

    code = f"""
        import os, sys
        from pathlib import Path
        from afmiddleware.testing import FrozenClock
        from tests.ledger.conftest import entry, sqlite
        from tests.ledger.test_counted import counts, turn_away
        clock = FrozenClock()
        ledger = sqlite(Path(sys.argv[1]), clock)
        turn_away(ledger, clock)
        clock.advance({seconds})
        child = os.fork()
        if child == 0:
            turn_away(ledger, clock)
            ledger.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ledger.close()
        print(sum(counts(sqlite(Path(sys.argv[1]), clock))))
    """
    done = run(code, tmp_path)
    assert done.stdout == "2\n", done.stderr
