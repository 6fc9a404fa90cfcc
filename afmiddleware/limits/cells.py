"""One counter of one limit for one key, and the arithmetic on it.

Every rounding and every clock that runs backwards leaves a counter at or above the truth, never below it. Time is in
microseconds since the epoch.

Rates and rolling spends use a ring of sub-windows that counts the oldest one in full: never more than the cap in any
window of the given length, freed at most one sub-window late. A paced rate counts what has not yet drained away, one
each interval (the generic cell rate algorithm): what passes is spaced evenly.
"""

from __future__ import annotations

from itertools import compress, count
from typing import Final

import msgspec

from afmiddleware.limits.calendar import CALENDAR, bounds
from afmiddleware.model.limit import Limit, Unit, Window

RATE_SLOTS: Final = 12
SPEND_SLOTS: Final = 60
_SECOND = 1_000_000
_MOST: Final = 2**62
NEVER: Final = 2**62


class Cell(msgspec.Struct, array_like=True):
    """A counter. It changes in place, under the ledger's lock.

    `until` is the first instant at which it has to be rolled: the end of a calendar window, of `span` microseconds, or
    that of the newest sub-window of a ring, of which `slots` has one more than fit into the window. It also marks what
    was counted until then. A counter that never begins anew has neither span nor slots; from `until` on it can be
    dropped. Of a paced rate `span` is the interval as a negative number, and `until` when the next one has drained
    away.
    """

    until: int
    span: int
    total: int
    slots: list[int]


def new_cell(limit: Limit, now: int) -> Cell:
    """An empty counter in the shape `limit` asks for."""
    return _cell(limit.window, now, RATE_SLOTS if limit.unit is Unit.RATE else SPEND_SLOTS, limit.quota)


def spend_cell(window: Window, now: int) -> Cell:
    """An empty counter of money in a window."""
    return _cell(window, now, SPEND_SLOTS, 0)


def _cell(window: Window, now: int, count: int, quota: int) -> Cell:
    if window.kind == "rolling":
        span = -(-window.seconds * _SECOND // count)
        return Cell((now // span + 1) * span, span, 0, [0] * (count + 1))
    if window.kind in CALENDAR:
        start, end = bounds(window.kind, now, window.zone, window.week_start)
        return Cell(end, end - start, 0, [])
    if window.kind == "pacing":
        interval = -(-window.seconds * _SECOND // max(quota, 1))
        return Cell(now + interval, -interval, 0, [])
    # A session's counter goes when the session has ended, or never.
    return Cell(now + window.seconds * _SECOND if window.seconds else NEVER, 0, 0, [])


def roll(cell: Cell, now: int, window: Window) -> None:
    """Move the counter to `now`: forget what is past. A `now` before what was seen changes nothing.

    An empty counter is moved too when `now` is before its `until`: a paced one begins anew with what is counted next.
    """
    if cell.span < 0:
        _drain(cell, now)
    elif now < cell.until:
        return
    elif cell.slots:
        _advance(cell, now)
    elif not cell.span:
        # Whatever was said of its end: what still counts goes on counting.
        cell.until = now + window.seconds * _SECOND if window.seconds else NEVER
    else:
        start, end = bounds(window.kind, now, window.zone, window.week_start)
        # A zone that changed under a running window must not open a second one inside it.
        cell.span = end - max(start, cell.until)
        cell.until = end
        cell.total = 0


def add(cell: Cell, amount: int) -> int:
    """Count `amount` now (after `roll`). Returns the mark under which `credit` gives it back."""
    total = cell.total + amount
    # Beyond the largest stored number it saturates: that is above any cap, and stays there.
    if total > _MOST:
        amount, total = amount - total + _MOST, _MOST
    cell.total, until, slots = total, cell.until, cell.slots
    if slots:
        slots[until // cell.span % len(slots)] += amount
    return until


def credit(cell: Cell, mark: int, amount: int) -> None:
    """Give back what was counted under `mark`, if that still counts. Never into another window, never below zero."""
    slots = cell.slots
    if slots:
        if (cell.until - mark) // cell.span >= len(slots):
            return
        place = mark // cell.span % len(slots)
        amount = min(amount, slots[place])
        slots[place] -= amount
    elif mark != cell.until:
        return
    cell.total = max(cell.total - amount, 0)


def frees_at(cell: Cell, cap: int) -> int:
    """When some of what is counted under `cap` comes back (after `roll`); 0 for never. The soonest `resets_at`."""
    span, slots, total = cell.span, cell.slots, cell.total
    if slots and 0 < total <= cap:
        newest, size = cell.until // span, len(slots)
        if total == slots[newest % size]:
            # All of it stands in the newest sub-window, as after any idle time.
            return (newest + size - 1) * span
        oldest = newest + 1
        place = oldest % size
        # The oldest sub-window that holds anything leaves first.
        return (oldest + next(compress(count(), slots[place:] + slots[:place])) - 1) * span
    if span > 0 and not slots:
        return cell.until if cap else 0
    # What frees the first unit again: room for one more than there is, or for one at all.
    return resets_at(cell, cap - total + 1 if 0 < total <= cap else 1, cap) if span else 0


def resets_at(cell: Cell, room: int, cap: int) -> int:
    """When `room` more will fit under `cap` if nothing else comes (after `roll`); 0 for never."""
    if room > cap or not cap or not cell.span:
        return 0
    slots = cell.slots
    span, excess = cell.span, cell.total + room - cap
    if span < 0:
        return cell.until - (excess - 1) * span if excess > 0 else cell.until + span
    if not slots:
        return cell.until
    if excess <= 0:
        return cell.until - span
    size = len(slots)
    newest = cell.until // span
    if cell.total == slots[newest % size]:
        # All of it stands in the newest sub-window, as after any idle time.
        return (newest + size - 1) * span
    slot = newest - size + 1
    while excess > 0 and slot < newest:
        excess -= slots[slot % size]
        slot += 1
    # The sub-window before `slot` is the last that has to leave; it leaves when the newest is one ring later.
    return ((slot - 1 if excess <= 0 else newest) + size - 1) * span


def expired(cell: Cell, now: int) -> bool:
    """Whether nothing in the counter counts any more, so that it can be forgotten."""
    return now >= over_at(cell)


def over_at(cell: Cell) -> int:
    """When nothing in the counter counts any more."""
    if cell.slots:
        return cell.until + cell.span * (len(cell.slots) - 1)
    if cell.span < 0:
        return cell.until - (cell.total - 1) * cell.span if cell.total else 0
    return cell.until


def _drain(cell: Cell, now: int) -> None:
    interval = -cell.span
    if now >= cell.until:
        gone = min((now - cell.until) // interval + 1, cell.total)
        cell.total -= gone
        cell.until += gone * interval
    if not cell.total:
        cell.until = max(cell.until, now + interval)


def _advance(cell: Cell, now: int) -> None:
    slots, span = cell.slots, cell.span
    newest, size = cell.until // span, len(slots)
    number = now // span + 1
    if number - newest >= size:
        slots[:] = [0] * size
        cell.total = 0
    else:
        for passed in range(newest + 1, number + 1):
            place = passed % size
            cell.total -= slots[place]
            slots[place] = 0
    cell.until = number * span
