"""Idempotency keys on every ledger: one key runs one handler, once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.ledger.base import Filter
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model import End, Entry, Held, Outcome, Record, Settlement, Window
from afmiddleware.model.entry import Claim, Conclusion, Order, Settle
from afmiddleware.model.outcome import Answer
from afmiddleware.receipts.notary import redaction
from tests.ledger.conftest import DENY, entry, rate, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

BUDGET, BURST = spend(10_000, Window("total")), rate(50)
DAY = 24 * 3600 * 1_000_000
ANSWER = Answer(201, [(b"content-type", b"application/json")], b'{"id": 7}')


def keyed(name: str, fingerprint: str = "f1", amount: int = 1000, **more: object) -> Entry:
    return replace(entry(name, BUDGET, BURST, amount=amount), claim=Claim("key-1", fingerprint, DAY), **more)


def admit(ledger: Ledger, item: Entry) -> Held:
    held = ledger.commit(item)
    assert isinstance(held, Held)
    return held


def end(ledger: Ledger, name: str, settlement: str, answer: Answer | None, how: End = End.OK) -> None:
    ledger.commit(Conclusion(name, Outcome(Settlement(settlement), how, 201, None, answer)))


def used(ledger: Ledger) -> tuple[int, int]:
    cells = ledger.rows(["actor:key:a"])["actor:key:a"].cells
    return cells[BUDGET.cell].total, cells[BURST.cell].total


def test_the_same_request_gets_the_same_answer_and_is_not_charged(ledger: Ledger) -> None:
    assert admit(ledger, keyed("d1")).verdict.authorized
    running = admit(ledger, keyed("d2"))
    assert (running.verdict.code, running.verdict.retry_after) == ("idempotency.in_flight", 1)
    end(ledger, "d1", "capture", ANSWER)
    for n in range(3):
        again = admit(ledger, keyed(f"e{n}"))
        assert (again.replay, again.receipt) == (ANSWER, None)
    assert used(ledger) == (1000, 5)
    assert [name for name, _ in ledger.holds()] == []


def test_a_redacted_value_is_not_answered_again_either(ledger: Ledger) -> None:
    for name in ("d1", "d2"):
        other = replace(keyed(name), claim=Claim(f"key-{name}", "f1", DAY))
        admit(ledger, other)
        end(ledger, name, "capture", Answer(201, [], b'{"for": "jane-roe"}'))
    seq = next(one.receipt.seq for one in ledger.receipts(Filter(decision="d1")))
    ledger.commit(Record(redaction(["actor"], [seq], "gdpr.erasure", "dpo"), erase=("actor",), erase_in=(seq,)))
    again = admit(ledger, replace(keyed("e1"), claim=Claim("key-d1", "f1", DAY)))
    assert (again.verdict.code, again.replay) == ("idempotency.replay_unavailable", None)
    kept = admit(ledger, replace(keyed("e2"), claim=Claim("key-d2", "f1", DAY)))
    assert kept.replay == Answer(201, [], b'{"for": "jane-roe"}')


def test_another_request_under_the_same_key_is_refused(ledger: Ledger) -> None:
    admit(ledger, keyed("d1"))
    assert admit(ledger, keyed("d2", "f2")).verdict.code == "idempotency.mismatch"
    end(ledger, "d1", "capture", ANSWER)
    assert admit(ledger, keyed("d3", "f2")).verdict.code == "idempotency.mismatch"


@pytest.mark.parametrize(
    ("settlement", "how"), [("unknown", End.ERROR), ("unknown", End.OK), ("capture", End.CLIENT_GONE)]
)
def test_what_ended_without_a_known_outcome_never_runs_again(ledger: Ledger, settlement: str, how: End) -> None:
    admit(ledger, keyed("d1"))
    end(ledger, "d1", settlement, None, how)
    assert admit(ledger, keyed("d2")).verdict.code == "idempotency.outcome_unknown"
    assert used(ledger)[0] == 1000


def test_what_is_never_heard_of_again_does_not_run_again(ledger: Ledger, clock: FrozenClock) -> None:
    admit(ledger, keyed("d1"))
    clock.advance(299)
    assert admit(ledger, keyed("d2")).verdict.code == "idempotency.in_flight"
    clock.advance(1)
    assert admit(ledger, keyed("d3")).verdict.code == "idempotency.outcome_unknown"
    # The operator knows better.
    ledger.commit(Settle("d1", Settlement.RELEASE, "", "ops"))
    assert admit(ledger, keyed("d4")).verdict.authorized


def test_an_answer_that_was_not_kept_is_not_made_again(ledger: Ledger) -> None:
    admit(ledger, keyed("d1"))
    end(ledger, "d1", "capture", None)
    assert admit(ledger, keyed("d2")).verdict.code == "idempotency.replay_unavailable"


def test_what_never_ran_frees_its_key(ledger: Ledger) -> None:
    assert admit(ledger, keyed("d0", verdict=DENY)).verdict.code == "policy.denied"
    assert admit(ledger, keyed("d1", amount=20_000)).verdict.code == "spend.exceeded"
    admit(ledger, keyed("d2"))
    end(ledger, "d2", "release", None, End.NOT_REACHED)
    assert admit(ledger, keyed("d3")).verdict.authorized


def test_a_release_by_somebody_else_frees_no_key_of_a_handler_that_runs(ledger: Ledger) -> None:
    """It did: the next request with the key ran the handler a second time, beside the first."""
    admit(ledger, keyed("d1"))
    ledger.commit(Settle("d1", Settlement.RELEASE))
    assert admit(ledger, keyed("d2")).verdict.code == "idempotency.in_flight"
    end(ledger, "d1", "capture", ANSWER)
    third = admit(ledger, keyed("d3"))
    # The ledger in memory has forgotten a reservation that was settled, and takes its handler to be running.
    assert third.replay == ANSWER or third.verdict.code == "idempotency.in_flight"
    assert used(ledger)[0] == 0


def test_a_release_long_after_frees_the_key_of_a_handler_that_was_lost(ledger: Ledger, clock: FrozenClock) -> None:
    admit(ledger, keyed("d1"))
    clock.advance(300)
    ledger.commit(Settle("d1", Settlement.RELEASE))
    assert admit(ledger, keyed("d2")).verdict.authorized


def test_a_refusal_of_the_handler_is_an_answer_too(ledger: Ledger) -> None:
    admit(ledger, keyed("d1"))
    declined = Answer(402, [], b"declined")
    end(ledger, "d1", "release", declined)
    assert admit(ledger, keyed("d2")).replay == declined
    assert used(ledger)[0] == 0


def test_a_key_is_forgotten_after_its_time(ledger: Ledger, clock: FrozenClock) -> None:
    admit(ledger, keyed("d1"))
    end(ledger, "d1", "capture", ANSWER)
    clock.advance(86_399)
    assert admit(ledger, keyed("d2")).replay == ANSWER
    clock.advance(1)
    assert admit(ledger, keyed("d3")).verdict.authorized
    # The end of the first, told once more, does not stand in the way of the second.
    end(ledger, "d1", "capture", ANSWER)
    assert admit(ledger, keyed("d4")).verdict.code == "idempotency.in_flight"


def test_a_full_rate_comes_before_a_replay(ledger: Ledger) -> None:
    one = rate(1)
    item = replace(entry("d1", one), claim=Claim("key-1", "f1", DAY))
    admit(ledger, item)
    end(ledger, "d1", "capture", ANSWER)
    again = admit(ledger, replace(item, id="d2"))
    assert (again.replay, again.verdict.code) == (None, "rate.exceeded")


def test_what_is_denied_or_frozen_now_gets_no_stored_answer(ledger: Ledger) -> None:
    """It did: an operator's freeze let the answers of before through for a day."""
    admit(ledger, keyed("d1"))
    end(ledger, "d1", "capture", ANSWER)
    denied = admit(ledger, keyed("d2", verdict=DENY))
    assert (denied.replay, denied.verdict.code) == (None, "policy.denied")
    ledger.commit(Order(what="freeze", key=CONTROL, name="payments.*", by="test"))
    frozen = admit(ledger, keyed("d3"))
    assert (frozen.replay, frozen.verdict.code) == (None, "capability.frozen")
    ledger.commit(Order(what="unfreeze", key=CONTROL, name="payments.*", by="test"))
    assert admit(ledger, keyed("d4")).replay == ANSWER


def test_one_of_many_at_once_runs(ledger: Ledger) -> None:
    codes: list[str] = []

    def work(name: str) -> None:
        codes.append(admit(ledger, keyed(name)).verdict.code)

    threads = [threading.Thread(target=work, args=(f"d{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["idempotency.in_flight"] * 19 + ["policy.allowed"]
    assert used(ledger) == (1000, 20)


def test_a_handler_that_was_given_up_says_nothing_of_another_ones_key(ledger: Ledger, clock: FrozenClock) -> None:
    admit(ledger, keyed("d1"))
    clock.advance(301)
    ledger.commit(Settle("d1", Settlement.RELEASE, "", "ops"))
    assert admit(ledger, keyed("d2")).verdict.authorized
    end(ledger, "d1", "capture", Answer(200, [], b"of the first"))
    assert admit(ledger, keyed("d3")).verdict.code == "idempotency.in_flight"
    end(ledger, "d2", "capture", ANSWER)
    assert admit(ledger, keyed("d4")).replay == ANSWER
