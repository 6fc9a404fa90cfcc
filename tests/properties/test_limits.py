"""Every kind of window against a list of everything that was ever counted, in any order of events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from afmiddleware.ledger.base import Filter, Ledger
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.model import Closed, Entry, Held, Settlement, Window
from afmiddleware.model.entry import Refund, Settle
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, crowd, ending, entry, rate, spend
from tests.ledger.servers import SECRET

SECOND = 1_000_000
ZONE = "Europe/London"
BURST = rate(5, 60)
SPENDS = {
    "hour": spend(900, Window("rolling", 3600), "hour"),
    "day": spend(2000, Window("day", 0, ZONE), "day"),
    "clock": spend(1100, Window("hour", 0, ZONE), "clock"),
    "week": spend(4000, Window("week", 0, ZONE, 6), "week"),
    "month": spend(5000, Window("month", 0, ZONE), "month"),
    "total": spend(8000, Window("total"), "total"),
}
CROWD = crowd(6)
LIMITS = (BURST, CROWD, *SPENDS.values())
EDGES = (55, 60, 65, 3540, 3599, 3600, 3659, 3660, 3661, 7320, 35_000, 86_399, 86_400, 90_000)
LATE = {"burst": 5 * SECOND, "hour": 60 * SECOND}
"""How long after its window a unit may still count: one sub-window."""


class Spent:
    """One reservation as the model sees it: what it counts, and since when."""

    def __init__(self, at: int, amount: int) -> None:
        self.at = at
        self.amount = amount


class Limits(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # An hour before the clocks of London go back: a day of 25 hours lies ahead.
        self.clock = FrozenClock(int(datetime(2026, 10, 24, 23, tzinfo=ZoneInfo(ZONE)).timestamp()) * SECOND)
        self.ledger = self.opened()
        self.names = count()
        self.latest = 0
        self.idle = False
        self.judged: list[int] = []
        self.spent: list[Spent] = []
        self.open: list[tuple[Entry, Held, Spent]] = []
        self.doubts: list[tuple[str, list[Spent]]] = []
        self.booked: list[tuple[str, list[Spent]]] = []

    def opened(self) -> Ledger:
        draws = count()
        return MemoryLedger(
            ReceiptKeys.derive(SECRET),
            self.clock,
            lambda size: hashlib.shake_256(str(next(draws)).encode()).digest(size),
        )

    def commit(self, amount: int, **more: Any) -> tuple[Entry, Held]:
        begun = entry(f"d{next(self.names)}", *LIMITS, amount=amount, **more)
        held = self.ledger.commit(begun)
        assert isinstance(held, Held)
        self.latest = max(self.latest, self.clock())
        return begun, held

    def counted(self, name: str, late: int = 0) -> int:
        """What stands under a limit by the list of everything; with `late`, what may."""
        if name == "burst":
            return sum(at > self.latest - 60 * SECOND - late for at in self.judged)
        if name == "hour":
            return sum(one.amount for one in self.spent if one.at > self.latest - 3600 * SECOND - late)
        if name in LABELS:
            label = LABELS[name]
            return sum(one.amount for one in self.spent if label(local(one.at)) == label(local(self.latest)))
        return sum(one.amount for one in self.spent)

    @rule(amount=st.integers(0, 500), judged=st.booleans())
    def act(self, amount: int, judged: bool) -> None:
        begun, held = self.commit(amount, **({} if judged else {"verdict": DENY}))
        code, limit = held.verdict.code, held.verdict.limit
        if code == "rate.exceeded":
            assert self.counted("burst", LATE["burst"]) + 1 > BURST.cap
            return
        assert self.counted("burst") + 1 <= BURST.cap
        self.judged.append(self.latest)
        if not judged:
            assert code == "policy.denied"
        elif code == "concurrency.exceeded":
            assert len(self.open) == CROWD.cap
        elif code == "spend.exceeded":
            assert self.counted(limit, LATE.get(limit, 0)) + amount > SPENDS[limit].cap
        else:
            assert held.verdict.authorized
            assert len(self.open) < CROWD.cap
            assert all(self.counted(name) + amount <= limit.cap for name, limit in SPENDS.items())
            one = Spent(self.latest, amount)
            self.spent.append(one)
            self.open.append((begun, held, one))

    @rule(times=st.integers(2, 6), seconds=st.sampled_from([0, 1, 4, 5, 11]))
    def act_often(self, times: int, seconds: int) -> None:
        for _ in range(times):
            self.act(150, judged=True)
            self.clock.advance(seconds)

    @rule(seconds=st.integers(0, 70) | st.sampled_from(EDGES))
    def wait(self, seconds: int) -> None:
        # Nothing looks at the counters before something else does: idling must not be noticed on the way.
        self.idle = True
        self.clock.advance(seconds)

    @rule(seconds=st.integers(1, 90_000))
    def turn_the_clock_back(self, seconds: int) -> None:
        self.noted()
        self.clock.advance(-seconds)

    def noted(self) -> None:
        """Have the time written down; in memory every look at the counters does."""

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 50), settled=st.sampled_from(Settlement), captured=st.none() | st.integers(0, 700))
    def conclude(self, which: int, settled: Settlement, captured: int | None) -> None:
        begun, held, one = self.open.pop(which % len(self.open))
        key = f"reference:{begun.id}"
        closed = self.ledger.commit(replace(ending(begun, held, settled, captured), reference=key))
        assert isinstance(closed, Closed)
        assert closed.booked
        self.latest = max(self.latest, self.clock())
        kept = 0 if settled is Settlement.RELEASE else one.amount if captured is None else captured
        parts = self.settled(one, kept)
        if settled is Settlement.UNKNOWN:
            self.doubts.append((begun.id, parts))
        elif settled is Settlement.CAPTURE:
            self.booked.append((key, parts))

    def settled(self, one: Spent, kept: int) -> list[Spent]:
        if kept <= one.amount:
            one.amount = kept
            return [one]
        self.spent.append(Spent(self.latest, kept - one.amount))
        return [one, self.spent[-1]]

    @precondition(lambda self: self.booked)
    @rule(which=st.integers(0, 50), amount=st.just(-1) | st.integers(0, 600))
    def refund(self, which: int, amount: int) -> None:
        key, parts = self.booked[which % len(self.booked)]
        asked = entry(f"d{next(self.names)}")
        held = self.ledger.commit(replace(asked, money=None, refund=Refund(key, amount, "USD", 2)))
        assert isinstance(held, Held)
        assert held.verdict.authorized
        self.ledger.commit(ending(asked, held))
        self.latest = max(self.latest, self.clock())
        left = amount if amount >= 0 else sum(one.amount for one in parts)
        for one in reversed(parts):
            back = min(left, one.amount)
            one.amount -= back
            left -= back

    @precondition(lambda self: self.doubts)
    @rule(which=st.integers(0, 50), performed=st.booleans())
    def resolve(self, which: int, performed: bool) -> None:
        name, parts = self.doubts.pop(which % len(self.doubts))
        closed = self.ledger.commit(Settle(name, Settlement.CAPTURE if performed else Settlement.RELEASE))
        assert isinstance(closed, Closed)
        assert closed.booked
        self.latest = max(self.latest, self.clock())
        for one in () if performed else parts:
            one.amount = 0

    @invariant()
    def no_counter_is_below_the_truth_or_late_by_more_than_it_may(self) -> None:
        if self.idle:
            self.idle = False
            return
        _, held = self.commit(0, dry=True)
        for balance in held.balances:
            name = balance.limit.name
            if name == CROWD.name:
                assert balance.used == len(self.open)
                continue
            assert self.counted(name) <= balance.used <= self.counted(name, LATE.get(name, 0)), name
            assert balance.remaining == max(balance.limit.cap - balance.used, 0)

    @invariant()
    def no_window_of_a_minute_has_more_than_its_rate(self) -> None:
        last = self.judged[-20:]
        assert all(sum(at <= other < at + 60 * SECOND for other in last) <= BURST.cap for at in last)

    def teardown(self) -> None:
        report = verify(self.ledger.receipts(Filter()), self.ledger.head(), ReceiptKeys.derive(SECRET), None)
        assert (report.code, report.open) == ("", len(self.open))


def local(at: int) -> datetime:
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(ZONE))


LABELS: dict[str, Callable[[datetime], object]] = {
    "clock": lambda at: (at.date(), at.hour, at.utcoffset()),
    "day": lambda at: at.date(),
    "week": lambda at: at.date() - timedelta(days=(at.weekday() - 6) % 7),
    "month": lambda at: (at.year, at.month),
}
"""What two instants of one calendar window have in common."""


Limits.TestCase.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
TestLimits = Limits.TestCase
