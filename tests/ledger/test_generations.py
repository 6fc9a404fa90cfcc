"""Which policy decides, in every ledger: what is superseded decides nothing more, and leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from afmiddleware.errors import StalePolicyError
from afmiddleware.ledger.base import Filter
from afmiddleware.limits.generations import KEPT, generation_in
from afmiddleware.limits.rows import Generation
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model import Closed, Conclusion, Held, Outcome, Settlement
from afmiddleware.model.entry import Claim, Entry, InForce, Order, Settle
from afmiddleware.model.outcome import End
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, crowd, ending, entry, rate, spend
from tests.ledger.test_records import bodies

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model import Window

DAY = "day"


def by(policy: str, name: str, *limits: Any, **more: Any) -> Entry:
    claim = more.pop("claim", None)
    return replace(entry(name, *limits, **more), policy=policy, claim=claim)


def start(ledger: Ledger, policy: str) -> None:
    ledger.commit(InForce(policy, "enforce", file=policy))


def reload(ledger: Ledger, before: str, policy: str) -> None:
    ledger.commit(InForce(policy, "enforce", "reload", file=policy, before=before))


def activate(ledger: Ledger, policy: str) -> Closed:
    answer = ledger.commit(InForce(policy, "enforce", "activate", by="ops", reason="incident 7", file=policy))
    assert isinstance(answer, Closed)
    return answer


def decides(ledger: Ledger, policy: str, name: str) -> bool:
    try:
        answer = ledger.commit(by(policy, name))
    except StalePolicyError:
        return False
    assert isinstance(answer, Held)
    assert answer.verdict.authorized
    return True


def generation(ledger: Ledger) -> Generation:
    found = generation_in(ledger.rows([CONTROL]))
    assert found is not None
    return found


def day() -> Window:
    from afmiddleware.model import Window

    return Window("day")


@pytest.mark.parametrize("verdict", ["allow", "deny", "claim", "together", "observe"])
def test_what_is_superseded_decides_nothing_and_counts_nothing(ledger: Ledger, verdict: str):
    start(ledger, "aa")
    limits = (rate(1), spend(100, day()), crowd(1))
    reload(ledger, "aa", "bb")
    size = ledger.head().size
    late = by("aa", "d1", *limits, amount=100, observe=verdict == "observe")
    if verdict == "deny":
        late = replace(late, verdict=DENY)
    elif verdict == "claim":
        late = replace(late, claim=Claim("claim", "f", 10**9))
    elif verdict == "together":
        late = replace(late, slots=(), others=(by("aa", "d2", *limits[:2], amount=0),))
    with pytest.raises(StalePolicyError) as caught:
        ledger.commit(late)
    error = caught.value
    assert (error.policy, error.active, error.generation, error.pinned) == ("aa", "bb", 2, False)
    assert error.observe == (verdict == "observe")
    # No receipt, no charge, no slot, no claim: the whole of every limit is there for the next.
    assert ledger.head().size == size
    assert not [*ledger.holds()]
    now = by("bb", "d3", *limits, amount=100, claim=Claim("claim", "f", 10**9))
    held = ledger.commit(now)
    assert isinstance(held, Held)
    assert held.verdict.authorized, held.verdict


def test_what_was_admitted_before_ends_as_ever(ledger: Ledger):
    start(ledger, "aa")
    begun = by("aa", "d1", spend(100, day()), amount=60)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    other = ledger.commit(by("aa", "d2"))
    assert isinstance(other, Held)
    reload(ledger, "aa", "bb")
    ended = ledger.commit(ending(begun, held, captured=50))
    assert ended == Closed(booked=True, state="capture", receipt=ended.receipt if isinstance(ended, Closed) else None)
    assert isinstance(settled := ledger.commit(Settle("d2", Settlement.RELEASE, "", "ops")), Closed)
    assert settled.booked
    assert isinstance(frozen := ledger.commit(Order(what="freeze", key="actor:key:1", by="ops")), Closed)
    assert frozen.booked
    # What nobody decides, such as a refusal that is only posted, names no policy.
    refusal = ledger.commit(entry("d3", verdict=DENY))
    assert isinstance(refusal, Held)
    assert refusal.receipt is not None


def test_there_and_back_again(ledger: Ledger, clock: FrozenClock):
    start(ledger, "aa")
    reload(ledger, "aa", "bb")
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb")] == [False, True]
    clock.advance(1_000_000)
    reload(ledger, "bb", "aa")
    assert [decides(ledger, one, f"e-{one}") for one in ("aa", "bb")] == [True, False]
    assert generation(ledger) == Generation(3, "aa", generation(ledger).since, superseded=("bb",))
    if "Postgres" not in type(ledger).__name__:
        assert generation(ledger).since == clock()
    told = [(one["old_policy"], one["policy"], one["generation"]) for one in bodies(ledger, "policy")]
    # The first change comes before the first decision of the log.
    assert told[-2:] == [("aa", "bb", 2), ("bb", "aa", 3)]


def test_every_process_that_takes_it_up_says_so_and_it_counts_once(ledger: Ledger):
    start(ledger, "aa")
    assert decides(ledger, "aa", "d1")
    for _ in range(3):
        reload(ledger, "aa", "bb")
    assert (generation(ledger).number, generation(ledger).superseded) == (2, ("aa",))
    assert len(bodies(ledger, "policy")) == 1


def test_who_is_behind_by_two_files_brings_back_none_of_them(ledger: Ledger):
    start(ledger, "aa")
    reload(ledger, "aa", "bb")
    reload(ledger, "bb", "cc")
    # Another host gets the files later, one after the other.
    reload(ledger, "aa", "bb")
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb", "cc")] == [False, False, True]
    reload(ledger, "bb", "cc")
    assert generation(ledger).number == 3
    # A file that nobody had is newer, wherever it comes up first.
    reload(ledger, "aa", "dd")
    assert generation(ledger).digest == "dd"
    assert decides(ledger, "dd", "e1")


def test_a_start_joins_with_any_policy(ledger: Ledger, caplog: pytest.LogCaptureFixture):
    start(ledger, "aa")
    assert decides(ledger, "aa", "d1")
    start(ledger, "aa")
    assert not caplog.records
    start(ledger, "bb")
    # A deploy: both decide until the old ones end, and it is said once.
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb")] == [True, True]
    start(ledger, "bb")
    [said] = [one.getMessage() for one in caplog.records]
    assert "policy bb decides from here on (generation 2)" in said
    assert "aa" in said
    assert "afmiddleware policy activate" in said
    reload(ledger, "bb", "cc")
    assert [decides(ledger, one, f"e-{one}") for one in ("aa", "bb", "cc")] == [True, False, True]
    # Whoever edits while the server is stopped starts with what was superseded, and is answered.
    start(ledger, "bb")
    assert decides(ledger, "bb", "f1")
    assert (generation(ledger).number, generation(ledger).superseded) == (4, ())


def test_an_activated_policy_is_the_only_one(ledger: Ledger):
    start(ledger, "aa")
    start(ledger, "bb")
    assert decides(ledger, "aa", "d1")
    assert activate(ledger, "cc").booked
    assert activate(ledger, "cc") == Closed(booked=False, state="policy")
    start(ledger, "dd")
    assert [decides(ledger, one, f"e-{one}") for one in ("aa", "bb", "cc", "dd")] == [False, False, True, False]
    told = bodies(ledger, "policy")[-1]
    assert (told["old_policy"], told["policy"], told["cause"]) == ("bb", "cc", "activate")
    assert (told["by"], told["reason"], told["generation"]) == ("ops", "incident 7", 3)
    # Who was not let decide did not put a policy in force.
    assert "dd" not in [one["policy"] for one in bodies(ledger, "policy")]
    with pytest.raises(StalePolicyError) as caught:
        ledger.commit(by("dd", "f1"))
    assert caught.value.pinned


def test_the_pin_moves_with_who_has_it_and_with_nobody_else(ledger: Ledger):
    start(ledger, "aa")
    activate(ledger, "bb")
    reload(ledger, "aa", "cc")
    assert not decides(ledger, "cc", "d1")
    reload(ledger, "bb", "dd")
    assert decides(ledger, "dd", "d2")
    assert (generation(ledger).digest, generation(ledger).pinned) == ("dd", True)
    start(ledger, "ee")
    assert not decides(ledger, "ee", "d3")
    reload(ledger, "cc", "dd")
    assert decides(ledger, "dd", "d4")


def test_what_is_active_already_can_be_pinned(ledger: Ledger):
    start(ledger, "aa")
    start(ledger, "bb")
    assert activate(ledger, "bb").booked
    assert generation(ledger).number == 2
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb")] == [False, True]


def test_the_first_policy_of_all_may_be_pinned(ledger: Ledger):
    assert activate(ledger, "aa").booked
    assert (generation(ledger).number, generation(ledger).pinned) == (1, True)
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb")] == [True, False]


def test_a_release_lets_other_policies_start(ledger: Ledger):
    order = Order(what="policy.release", key=CONTROL, name="bb", by="ops", reason="over")
    assert ledger.commit(order) == Closed(booked=False, state="policy.release")
    start(ledger, "aa")
    activate(ledger, "bb")
    start(ledger, "cc")
    answer = ledger.commit(order)
    assert isinstance(answer, Closed)
    assert answer.booked
    assert ledger.commit(order) == Closed(booked=False, state="policy.release")
    # What was active before the pin is superseded by it; what was only kept out may decide.
    assert [decides(ledger, one, f"d-{one}") for one in ("aa", "bb", "cc")] == [False, True, True]
    [told] = bodies(ledger, "operation")
    assert (told["operation"], told["name"], told["by"], told["reason"]) == ("policy.release", "bb", "ops", "over")


def test_a_bounded_number_of_superseded_policies_is_remembered(ledger: Ledger):
    start(ledger, "p0")
    for number in range(KEPT + 3):
        reload(ledger, f"p{number}", f"p{number + 1}")
    assert len(generation(ledger).superseded) == KEPT
    assert not decides(ledger, f"p{KEPT + 2}", "d1")
    assert not decides(ledger, "p3", "d2")


def test_in_one_batch_the_order_decides(ledger: Ledger):
    """What stands in the queue before the change is decided by the policy before it, what stands after is not."""
    start(ledger, "aa")
    before, after = by("aa", "d1"), by("aa", "d2")
    ledger.post(before)
    ledger.post(InForce("bb", "enforce", "reload", file="bb", before="aa"))
    if ledger.inline:
        with pytest.raises(StalePolicyError):
            ledger.post(after)
    else:
        ledger.post(after)
    assert decides(ledger, "bb", "d3")
    decided = [strict_parse(one.receipt.body).get("id") for one in ledger.receipts(Filter(kind="intent"))]
    assert decided == ["d1", "d3"]


def test_dry_runs_of_code_are_told_by_what_is_at_hand(ledger: Ledger):
    start(ledger, "aa")
    reload(ledger, "aa", "bb")
    assert isinstance(ledger.commit(entry("d1", dry=True)), Held)


def test_a_row_from_before_generations_reads(ledger: Ledger):
    """The row that holds what is frozen had no generation; what is decided by is then not known, and decides."""
    ledger.commit(Order(what="freeze", key=CONTROL, name="x.**", by="ops"))
    assert generation_in(ledger.rows([CONTROL])) is None
    assert decides(ledger, "aa", "d1")
    reload(ledger, "aa", "bb")
    assert not decides(ledger, "aa", "d2")


def test_an_outcome_of_a_superseded_policy_is_booked_when_it_comes_with_its_change(ledger: Ledger):
    start(ledger, "aa")
    assert decides(ledger, "aa", "d1")
    ledger.post(InForce("bb", "enforce", "reload", file="bb", before="aa"))
    ledger.post(Conclusion("d1", Outcome(settlement=Settlement.CAPTURE, end=End.OK, status=200)))
    assert decides(ledger, "bb", "d2")
    assert [one["id"] for one in bodies(ledger, "outcome")] == ["d1"]
