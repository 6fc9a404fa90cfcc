"""The end of a reservation: what its handler's answer says, what somebody says later, or what its deadline says.

    held --capture--> captured    held --release--> released    held --no outcome known--> unknown
    unknown --capture or release, by hand or at its deadline--> captured or released
    held, past its deadline --> expired, which is released, or captured

Money counts from the admission until it is released. Every step is taken once: to take it again changes nothing, and
says so. What was given back at a deadline and turns out to have been spent is booked again, over any cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.errors import MoneyError
from afmiddleware.grammar.amounts import to_minor
from afmiddleware.ledger.claims import RUNS_FOR, answered
from afmiddleware.ledger.refunds import follow
from afmiddleware.limits.breaker import probed
from afmiddleware.limits.charge import give_back, overrun
from afmiddleware.limits.slots import leave
from afmiddleware.model.entry import Closed, Conclusion, Settle
from afmiddleware.model.outcome import End, Outcome, Settlement
from afmiddleware.receipts.record import outcome as outcome_draft
from afmiddleware.receipts.record import resolution as resolution_draft

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.rows import Hold

EXPIRED = "expired"
"""The state of a reservation that was given back because nothing was heard of it until its deadline."""


def conclude(books: Books, item: Conclusion) -> Closed:
    """Book how a handler ended. Its slots are free from now on, whoever has settled its money before."""
    hold = books.holds.get(item.id)
    if hold is None:
        return Closed(booked=False)
    if hold.slots:
        books.changed |= leave(hold.slots, books.rows)
        hold.slots = []
        books.changed_holds.add(item.id)
    told = item.outcome
    if hold.claim is not None:
        answered(books, item.id, hold, told.settlement, told.end, told.answer)
    if hold.state == EXPIRED and item.outcome.settlement is not Settlement.RELEASE:
        # It was believed lost; what it says it spent counts after all.
        return _resolve(books, item.id, hold, item.outcome, "late", item.reference)
    if hold.state != "held":
        return Closed(booked=False, state=hold.state)
    return _end(books, item.id, hold, item.outcome, reference=item.reference, later=True)


def settle(books: Books, item: Settle) -> Closed:
    """Book what somebody knows of an action besides its handler's answer.

    Raises `MoneyError` or `GrammarError` for an amount that is none, or of an action without money.
    """
    hold = books.holds.get(item.id)
    if hold is None:
        return Closed(booked=False)
    told = Outcome(settlement=item.settlement)
    if item.amount:
        money = hold.refund or hold
        if not money.currency:
            msg = "this action reserved no money, so there is nothing to settle"
            raise MoneyError(msg)
        told = Outcome(settlement=item.settlement, captured=to_minor(item.amount, money.exponent))
    running = hold.state == "held" and books.now < hold.created + RUNS_FOR
    # While its handler runs, a key is not freed by somebody else's word: the handler would run twice.
    if not running and hold.state not in (Settlement.CAPTURE, Settlement.RELEASE):
        answered(books, item.id, hold, item.settlement, End.OK, None)
    if hold.state == "held":
        return _end(books, item.id, hold, told, item.by)
    if hold.state == "unknown" or (hold.state == EXPIRED and item.settlement is Settlement.CAPTURE):
        return _resolve(books, item.id, hold, told, item.by)
    return Closed(booked=False, state=hold.state)


def expire(books: Books, name: str) -> Closed:
    """Do what a reservation's deadline says, if it is past and the reservation still waits."""
    hold = books.holds.get(name)
    if hold is None or not hold.due or hold.due > books.now or hold.state not in ("held", "unknown"):
        return Closed(booked=False, state=hold.state if hold is not None else "")
    late = hold.state == "held"
    told = Outcome(settlement=Settlement(hold.then))
    closed = _end(books, name, hold, told, "deadline") if late else _resolve(books, name, hold, told, "deadline")
    if late and hold.state == Settlement.RELEASE:
        hold.state = EXPIRED
    return closed


def _end(  # noqa: PLR0913 (what is known of an end)
    books: Books,
    name: str,
    hold: Hold,
    told: Outcome,
    by: str = "",
    reference: str = "",
    *,
    later: bool = False,
) -> Closed:
    """Write the one outcome of an intent, and book it."""
    booked = _whole(hold, told)
    captured = booked.captured or 0
    beyond = max(captured - hold.amount, 0)
    draft = outcome_draft(
        name, hold.owner, hold.capability, hold.leaf, hold.currency, hold.exponent, booked, beyond, by
    )
    receipt = books.append_end(draft) if later else books.append(draft, hold.owner)
    _book(books, name, hold, booked)
    follow(books, name, hold, told.captured, reference)
    hold.due, hold.then = 0, ""
    if booked.settlement is Settlement.UNKNOWN and hold.unknown_then:
        hold.due, hold.then = books.now + hold.unknown_after, hold.unknown_then
    return Closed(booked=True, receipt=receipt, state=hold.state)


def _resolve(  # noqa: PLR0913 (what is known of an end)
    books: Books,
    name: str,
    hold: Hold,
    told: Outcome,
    by: str,
    reference: str = "",
) -> Closed:
    """Settle what has an outcome already: it was not known, or believed."""
    booked = _whole(hold, told)
    draft = resolution_draft(
        name, hold.owner, hold.capability, hold.leaf, hold.currency, hold.exponent, booked, was=hold.state, by=by
    )
    receipt = books.append(draft, hold.owner)
    _book(books, name, hold, booked)
    follow(books, name, hold, told.captured, reference)
    hold.due, hold.then = 0, ""
    return Closed(booked=True, receipt=receipt, state=hold.state)


def _whole(hold: Hold, told: Outcome) -> Outcome:
    """The outcome with the amount that stays counted: what was said, or all that counts, or would."""
    # What a refund gives back is not what it spent.
    captured = told.captured if hold.refund is None else None
    if captured is None or told.settlement is Settlement.RELEASE:
        kept = hold.reserved if hold.state == EXPIRED else hold.amount
        captured = 0 if told.settlement is Settlement.RELEASE else kept
    return Outcome(told.settlement, told.end, told.status, captured)


def _book(books: Books, name: str, hold: Hold, booked: Outcome) -> None:
    captured = booked.captured or 0
    if hold.lines:
        # Before an overrun is booked: a probe that spent too much opens again what it has closed.
        good = booked.settlement is Settlement.CAPTURE
        books.changed |= probed(hold.lines, books.rows, name, books.now, good=good)
    if captured != hold.amount:
        if captured < hold.amount:
            hold.lines = give_back(hold.lines, books.rows, hold.amount - captured)
        else:
            hold.lines = overrun(hold.lines, books.rows, captured - hold.amount, books.now)
        books.rebooked(hold.lines)
        hold.amount = captured
    hold.state = booked.settlement
    books.changed_holds.add(name)
