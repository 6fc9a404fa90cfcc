"""A writer whose rates and slots are counted in Redis first; what its ledger then refuses is given back there.

Money, keys and receipts stay in the ledger, in one transaction. Rates stay counted when the ledger refuses, but for
those that count only what was admitted; when it fails, nothing stays counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.ledger.committer import CommitUnknownError
from afmiddleware.limits.judge import own_charges
from afmiddleware.limits.shared import NO_CAPS, Counted, RecountError
from afmiddleware.model.entry import Conclusion, Entry, Held, Order, Ping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.ledger.committer import Answer, Writer
    from afmiddleware.ledger.redis_rates import Credit, Rates, Slot, Taken
    from afmiddleware.limits.rows import Row
    from afmiddleware.limits.shared import Caps
    from afmiddleware.model.entry import Item

ATTEMPTS: Final = 3
"""How often an entry is counted anew because its epoch or its actor's caps have changed, before it is given up."""

_REMEMBERED: Final = 10_000
_log = logging.getLogger("afmiddleware.ledger")


class SharedWriter:
    """Makes the transactions of `inner` after counting in `rates`, in the thread that opened it.

    `read` reads rows of the ledger. What only Redis can tell is unavailable while that does not answer, and nothing
    else is: outcomes, and what stands under no rate, are committed all the same.
    """

    def __init__(self, inner: Writer, rates: Rates, read: Callable[[list[str]], dict[str, Row]]) -> None:
        self._inner = inner
        self._rates = rates
        self._read = read
        self._mark = f"rates:{rates.url.prefix}"
        self._known: str | None = None
        self._caps: dict[str, Caps] = {}
        self._freed: list[Slot] = []
        self._credits: list[Credit] = []

    def write(self, items: Sequence[Item]) -> list[Answer]:
        """Count and commit the items in order. Raises as the inner writer does."""
        for item in items:
            if isinstance(item, Conclusion):
                self._free(item.id)
        try:
            answers = self._write(list(items), ATTEMPTS)
        finally:
            self._give_back()
        return answers

    def rest(self) -> None:
        """Keep up the lease of this process's slots, and let the inner writer do what is due."""
        try:
            self._settle()
            self._rates.rest()
        except LedgerUnavailableError as error:
            _log.warning("the shared counters were not looked after: %s", error)
        self._inner.rest()

    def close(self, *, ending: bool) -> None:
        """Let the inner writer go. Slots of requests that run stay taken."""
        self._give_back()
        self._inner.close(ending=ending)

    def _write(self, items: list[Item], left: int) -> list[Answer]:
        answers: dict[int, Answer] = {}
        counted = self._count({place: item for place, item in enumerate(items) if _shared(item)}, answers)
        self._reach([place for place, item in enumerate(items) if isinstance(item, Ping)], answers)
        wanted = [place for place in range(len(items)) if place not in answers]
        told: Sequence[Answer] = []
        try:
            if wanted:
                told = self._inner.write([counted[place][0] if place in counted else items[place] for place in wanted])
        except CommitUnknownError as error:
            answers.update(zip(wanted, error.answers, strict=True))
            self._keep_what_passed(counted, answers)
            raise CommitUnknownError(str(error), [answers[place] for place in range(len(items))]) from error
        except BaseException:
            self._keep_what_passed(counted, {})
            raise
        answers.update(zip(wanted, told, strict=True))
        self._keep_what_passed(counted, answers)
        again = [place for place, answer in answers.items() if isinstance(answer, RecountError)]
        if again:
            answers.update(zip(again, self._again([items[place] for place in again], left - 1), strict=True))
        return [answers[place] for place in range(len(items))]

    def _again(self, items: list[Item], left: int) -> list[Answer]:
        """Count entries under the caps that the ledger told of. What else was committed stays so, whatever happens."""
        fault = LedgerUnavailableError("the caps of this caller change too often")
        if left:
            try:
                return self._write(items, left)
            except AFError as error:
                fault = LedgerUnavailableError(str(error))
        return [fault] * len(items)

    def _count(self, asked: dict[int, Item], answers: dict[int, Answer]) -> dict[int, tuple[Counted, list[_Took]]]:
        """Count what shares rates or slots; what cannot be counted is answered."""
        if not asked:
            return {}
        groups = [[self._capped(one) for one in _actions(item)] for item in asked.values()]
        try:
            found = self._ask([(group[0].dry, group) for group in groups])
        except LedgerUnavailableError as error:
            answers.update(dict.fromkeys(asked, error))
            # It may have been done all the same: nobody stands there, whatever the server did.
            maybe = [(slot, one) for group in groups for one in group if not one.dry for slot in one.slots]
            self._freed += [(self._rates.name(slot), one.id) for slot, one in maybe]
            return {}
        counted: dict[int, tuple[Counted, list[_Took]]] = {}
        taken = iter(found)
        for place, group in zip(asked, groups, strict=True):
            took = [_Took(one, next(taken), self._rates) for one in group]
            wait = max(one.taken.closed for one in took)
            if wait:
                answers[place] = LedgerUnavailableError(
                    "the shared counters of a limit were lost, and it opens when its window is over",
                    retry_after=max(-(-wait // 1_000_000), 1),
                )
            else:
                first, *others = [one.counted(self._rates.now, self._caps) for one in took]
                counted[place] = (replace(first, others=tuple(others)) if others else first, took)
        return counted

    def _reach(self, pings: Sequence[int], answers: dict[int, Answer]) -> None:
        """Answer those who ask whether a commit can be made, where the shared counters cannot be reached."""
        try:
            if pings:
                self._ask(())
        except LedgerUnavailableError as error:
            answers.update(dict.fromkeys(pings, error))

    def _ask(self, groups: Sequence[tuple[bool, Sequence[Entry]]]) -> list[Taken]:
        for _ in range(ATTEMPTS):
            self._settle()
            found = self._rates.count(groups, self._freed, self._credits)
            if found is not None:
                self._freed, self._credits = [], []
                return found
        raise LedgerUnavailableError("the shared counters begin anew again and again")

    def _settle(self) -> None:
        """See to it that the ledger knows of the epoch before anything is counted in it."""
        if self._known is None:
            row = self._read([self._mark]).get(self._mark)
            self._known = next(iter(row.cells), "") if row is not None else ""
        epoch = self._rates.settle(self._known)
        if epoch != self._known:
            order = Order(what="begin", key=self._mark, name=epoch, by="fence", reason="the shared counters begin anew")
            try:
                answer = self._inner.write([order])[0]
            except AFError as error:
                answer = error
            if isinstance(answer, AFError):
                raise LedgerUnavailableError(str(answer))
            self._known = epoch

    def _keep_what_passed(self, counted: dict[int, tuple[Counted, list[_Took]]], answers: dict[int, Answer]) -> None:
        for place, (_, took) in counted.items():
            answer = answers.get(place)
            held = (answer, *answer.others) if isinstance(answer, Held) else ()
            if isinstance(answer, RecountError):
                if len(self._caps) >= _REMEMBERED:
                    self._caps = {}
                self._caps[answer.owner] = answer.caps
            for number, one in enumerate(took):
                passes = number < len(held) and _passed(one.entry, held[number])
                self._settle_one(one, passes=passes, undone=not held)

    def _settle_one(self, one: _Took, *, passes: bool, undone: bool) -> None:
        # No charge without a receipt: what the ledger could not decide is not counted, what it refused is.
        if one.entry.dry:
            return
        if passes:
            if one.slots:
                self._rates.standing[one.entry.id] = one.slots
            return
        self._freed += [(key, one.entry.id) for key in one.slots]
        self._credits += one.credits(everything=undone)

    def _capped(self, entry: Entry) -> Entry:
        caps = self._caps.get(entry.owner)
        if not caps:
            return entry
        return replace(entry, rates=own_charges(entry.rates, caps), slots=own_charges(entry.slots, caps))

    def _free(self, decision: str) -> None:
        keys = self._rates.standing.pop(decision, None)
        if keys:
            self._freed += [(key, decision) for key in keys]

    def _give_back(self) -> None:
        """Free slots, and take back what was counted for nothing; what cannot be told now, with what comes next."""
        if not (self._freed or self._credits):
            return
        try:
            self._ask(())
        except AFError as error:
            _log.warning("what was given back is not yet free: %s", error)


class _Took:
    """What one entry has counted, and the slots it stands in."""

    def __init__(self, entry: Entry, taken: Taken, rates: Rates) -> None:
        self.entry = entry
        self.taken = taken
        self.cells = taken.cells
        self._rates = rates
        passes = entry.observe or (entry.verdict.authorized and taken.full < 0 and taken.crowd < 0)
        stands = passes and not entry.dry and not taken.closed
        self.slots = [rates.name(slot) for slot in entry.slots] if stands else []

    def counted(self, now: int, caps: dict[str, Caps]) -> Counted:
        """The entry for the ledger, which has nothing to do with its rates and slots any more."""
        entry, taken = self.entry, self.taken
        whole = {name: getattr(entry, name) for name in entry.__struct_fields__ if name != "slots"}
        return Counted(
            **whole,
            cells=self.cells,
            full=taken.full,
            crowded=entry.slots[taken.crowd] if taken.crowd >= 0 and not entry.observe else None,
            at=now,
            caps=caps.get(entry.owner, NO_CAPS),
        )

    def credits(self, *, everything: bool) -> list[Credit]:
        """How to take back what only an admission counts, or everything."""
        return [
            (self._rates.name(charge), charge.limit, cell.until, charge.amount)
            for place, (charge, cell) in enumerate(zip(self.entry.rates, self.cells, strict=True))
            if self.taken.counted >> place & 1 and (everything or charge.limit.admitted)
        ]


def _shared(item: Item) -> bool:
    return isinstance(item, Entry) and any(one.rates or one.slots for one in _actions(item))


def _actions(item: Item) -> tuple[Entry, ...]:
    return (item, *item.others) if isinstance(item, Entry) else ()


def _passed(entry: Entry, held: Held) -> bool:
    """Whether a handler runs for it."""
    recorded = held.replay is None and held.receipt is not None
    return recorded and (held.verdict.authorized or entry.observe) and not entry.trial
