"""One counter of one limit for one key, and the arithmetic on it.

Every rounding and every clock that runs backwards leaves a counter at or above the truth, never below it. Time is in
microseconds since the epoch.

Rates and rolling spends use a ring of sub-windows that counts the oldest one in full: never more than the cap in any
window of the given length, freed at most one sub-window late.
"""

from __future__ import annotations

from typing import Final

import msgspec

from afmiddleware.limits.calendar import day_bounds
from afmiddleware.model.limit import Limit, Unit

RATE_SLOTS: Final = 12
SPEND_SLOTS: Final = 60
_SECOND = 1_000_000
_MOST: Final = 2**62


class Cell(msgspec.Struct, array_like=True):
    """A counter. It changes in place, under the ledger's lock.

    A ring has `slots`, `at` (the number of its newest sub-window) and `span` (a sub-window's length). A calendar
    window has `at` (its first instant) and `span` (its length). A counter without end has neither.
    """

    at: int
    span: int
    total: int
    slots: list[int]


def new_cell(limit: Limit, now: int) -> Cell:
    """An empty counter in the shape `limit` asks for."""
    window = limit.window
    if window.kind == "rolling":
        count = RATE_SLOTS if limit.unit is Unit.RATE else SPEND_SLOTS
        span = -(-window.seconds * _SECOND // count)
        return Cell(now // span, span, 0, [0] * (count + 1))
    if window.kind == "day":
        start, end = day_bounds(now, window.zone)
        return Cell(start, end - start, 0, [])
    return Cell(0, 0, 0, [])


def roll(cell: Cell, now: int, zone: str) -> None:
    """Move the counter to `now`: forget what is past. A `now` before what was seen changes nothing.

    `zone` is the IANA name that a calendar window is read in.
    """
    if cell.slots:
        _advance(cell, now // cell.span)
    elif cell.span and now >= cell.at + cell.span:
        start, end = day_bounds(now, zone)
        # A zone that changed under a running window must not open a second one inside it.
        cell.at = max(start, cell.at + cell.span)
        cell.span = end - cell.at
        cell.total = 0


def add(cell: Cell, amount: int) -> int:
    """Count `amount` now (after `roll`). Returns the mark under which `credit` gives it back."""
    # Beyond the largest stored number it saturates: that is above any cap, and stays there.
    amount = min(amount, _MOST - cell.total)
    cell.total += amount
    if cell.slots:
        cell.slots[cell.at % len(cell.slots)] += amount
    return cell.at


def credit(cell: Cell, mark: int, amount: int) -> None:
    """Give back what was counted under `mark`, if that still counts. Never into another window, never below zero."""
    if cell.slots:
        if cell.at - mark >= len(cell.slots):
            return
        place = mark % len(cell.slots)
        amount = min(amount, cell.slots[place])
        cell.slots[place] -= amount
    elif mark != cell.at:
        return
    cell.total = max(cell.total - amount, 0)


def resets_at(cell: Cell, room: int, cap: int) -> int:
    """When `room` more will fit under `cap` if nothing else comes (after `roll`); 0 for never."""
    if room > cap or not cap:
        return 0
    if not cell.slots:
        return cell.at + cell.span if cell.span else 0
    excess = cell.total + room - cap
    if cell.total == cell.slots[cell.at % len(cell.slots)]:
        # All of it stands in the newest sub-window, as after any idle time.
        return (cell.at + len(cell.slots)) * cell.span if excess > 0 else cell.at * cell.span
    size = len(cell.slots)
    slot = cell.at - size + 1
    while excess > 0 and slot < cell.at:
        excess -= cell.slots[slot % size]
        slot += 1
    # The sub-window before `slot` is the last that has to leave; it leaves when the newest is one ring later.
    last = slot - 1 if excess <= 0 else cell.at
    return (last + size) * cell.span


def expired(cell: Cell, now: int) -> bool:
    """Whether nothing in the counter counts any more, so that it can be forgotten."""
    if cell.slots:
        return now // cell.span - cell.at >= len(cell.slots)
    return bool(cell.span) and now >= cell.at + cell.span


def _advance(cell: Cell, slot: int) -> None:
    steps = slot - cell.at
    if steps <= 0:
        return
    size = len(cell.slots)
    if steps >= size:
        cell.slots[:] = [0] * size
        cell.total = 0
    else:
        for number in range(cell.at + 1, slot + 1):
            place = number % size
            cell.total -= cell.slots[place]
            cell.slots[place] = 0
    cell.at = slot
