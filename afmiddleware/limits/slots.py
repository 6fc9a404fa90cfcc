"""How many requests run at once: a request stands in a slot from its admission to its last byte.

A slot is leased by the process that runs the request. While that process lives it renews one lease for all its slots;
when it is gone its lease runs out, and with it every slot it held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.limits.rows import More, Row, Slot
from afmiddleware.model.limit import Balances
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from afmiddleware.model.limit import Charge

LEASE: Final = 30_000_000
"""How long a process that is not heard of keeps its slots, in microseconds."""

RENEWED: Final = 10_000_000
"""How old a lease becomes before it is renewed."""


def first_full(
    charges: Sequence[Charge],
    rows: Mapping[str, Row],
    leases: Mapping[int, int],
    now: int,
    beside: Sequence[Charge] = (),
) -> int:
    """The place of the first limit all of whose slots are taken by processes that live, or -1.

    `beside` are slots that other actions of the same request are about to take.
    """
    for place, charge in enumerate(charges):
        taken = sum(one.key == charge.key and one.limit.cell == charge.limit.cell for one in beside)
        if running(charge, rows, leases, now) + taken >= charge.limit.cap:
            return place
    return -1


def running(charge: Charge, rows: Mapping[str, Row], leases: Mapping[int, int], now: int) -> int:
    """How many stand in a limit's slots, not counting those of processes whose lease has run out."""
    row = rows.get(charge.key)
    busy = row.more.busy.get(charge.limit.cell) if row is not None and row.more is not None else None
    return sum(count for holder, count in busy.items() if leases.get(holder, 0) > now) if busy else 0


def with_slots(
    told: Balances,
    charges: Sequence[Charge],
    rows: Mapping[str, Row],
    leases: Mapping[int, int],
    now: int,
) -> Balances:
    """How limits stand, with how many run now in the slots of others. Nobody knows when one of those ends."""
    used = tuple(running(charge, rows, leases, now) for charge in charges)
    limits = tuple(charge.limit for charge in charges)
    return Balances(told.limits + limits, told.used + used, told.resets + (0,) * len(charges))


def take(
    charges: Iterable[Charge],
    rows: dict[str, Row],
    leases: Mapping[int, int],
    now: int,
    holder: int,
) -> list[Slot]:
    """Stand in a slot of each limit. Slots of processes that are gone are cleared away on the way."""
    taken: list[Slot] = []
    for charge in charges:
        cell = charge.limit.cell
        row = rows.setdefault(charge.key, Row({}))
        if row.more is None:
            row.more = More()
        live = {
            name: n for name, n in row.more.busy.get(cell, {}).items() if name == holder or leases.get(name, 0) > now
        }
        live[holder] = live.get(holder, 0) + 1
        row.more.busy[cell] = live
        taken.append(Slot(charge.key, cell, holder))
    return taken


def leave(slots: Iterable[Slot], rows: Mapping[str, Row]) -> set[str]:
    """Give slots back; what was cleared away meanwhile stays so. Returns the keys of the rows that changed."""
    changed: set[str] = set()
    for slot in slots:
        row = rows.get(slot.key)
        busy = row.more.busy.get(slot.cell) if row is not None and row.more is not None else None
        if row is None or row.more is None or not busy or slot.holder not in busy:
            continue
        busy[slot.holder] -= 1
        if not busy[slot.holder]:
            del busy[slot.holder]
        if not busy:
            del row.more.busy[slot.cell]
        if row.more == More():
            row.more = None
        changed.add(slot.key)
    return changed


def refuse_crowd(verdict: Verdict, charge: Charge, *, anonymous: bool) -> Verdict:
    """The verdict when as many run as may."""
    limit = charge.limit
    reason = f"The limit {limit.name} lets {limit.cap} requests run at once."
    return Verdict(
        authorized=False,
        code="concurrency.exceeded",
        reason=f"The limit {limit.name} is reached." if anonymous else reason,
        capability=verdict.capability,
        rule=verdict.rule,
        line=limit.line,
        limit=limit.name,
        remaining="0",
        retry_after=1,
        flags=verdict.flags,
    )
