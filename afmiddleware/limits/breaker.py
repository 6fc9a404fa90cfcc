"""Circuit breakers: a spend limit that, once it would be exceeded, stops spending until somebody or a probe closes it.

It opens on what would be spent, before the money moves. It is a latch: time alone, a new window included, closes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.limits.rows import More, Row, Trip
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.limits.cells import Cell
    from afmiddleware.limits.rows import Line
    from afmiddleware.model.limit import Charge

_SECOND = 1_000_000


class Guard(msgspec.Struct):
    """What limits with an `on_exceed` say to an action, as places in its charges.

    `full` is the first that simply has no room, `open` the first breaker that lets nothing pass, -1 for none. `trips`
    would open, `probes` are open and would let this one through, `alerts` have no room and only say so.
    """

    full: int = -1
    open: int = -1
    trips: list[int] = []
    probes: list[int] = []
    alerts: list[int] = []


def guard(charges: Sequence[Charge], cells: Sequence[Cell], rows: Mapping[str, Row], now: int) -> Guard:
    """Weigh an action under limits some of which are breakers."""
    found = Guard()
    for place, (charge, cell) in enumerate(zip(charges, cells, strict=True)):
        limit = charge.limit
        over = charge.amount > limit.cap - cell.total
        if limit.on_exceed == "alert":
            if over:
                found.alerts.append(place)
            continue
        if limit.on_exceed != "trip":
            if over and found.full < 0:
                found.full = place
            continue
        trip = _trip(rows, charge.key, limit.cell)
        if trip is None:
            if over:
                found.trips.append(place)
        elif charge.amount or limit.stops_free:
            if over or not _probing(trip, limit.half_open * _SECOND, now):
                found.open = place if found.open < 0 else found.open
            else:
                found.probes.append(place)
    return found


def trip(row: Row, cell: str, now: int) -> None:
    """Open a breaker; one that is open stays as it is."""
    if row.more is None:
        row.more = More()
    row.more.trips.setdefault(cell, Trip(now))


def probe(row: Row, cell: str, decision: str, now: int) -> None:
    """Let one action through an open breaker to see how it ends."""
    found = row.more.trips.get(cell) if row.more is not None else None
    if found is not None:
        found.probe, found.probed_at = decision, now


def probed(lines: Sequence[Line], rows: Mapping[str, Row], decision: str, now: int, *, good: bool) -> set[str]:
    """Learn how a probe ended: a good end closes its breakers, another keeps them open from now on.

    Returns the keys of the rows that changed.
    """
    changed: set[str] = set()
    for line in lines:
        # Only what can trip is ever probed.
        found = _trip(rows, line.key, line.cell) if line.trips_over >= 0 else None
        if found is None or found.probe != decision:
            continue
        if good:
            reset(rows[line.key], line.cell)
        else:
            found.at, found.probe = now, ""
        changed.add(line.key)
    return changed


def reset(row: Row, cell: str) -> bool:
    """Close a breaker; whether it was open."""
    if row.more is None or row.more.trips.pop(cell, None) is None:
        return False
    if row.more == More():
        row.more = None
    return True


def refuse_open(verdict: Verdict, charge: Charge, rows: Mapping[str, Row], now: int, *, anonymous: bool) -> Verdict:
    """The verdict when a breaker is open, or opens now."""
    limit = charge.limit
    found = _trip(rows, charge.key, limit.cell)
    at = (found.at if found is not None else now) + limit.half_open * _SECOND if limit.half_open else 0
    why = "Spending is stopped." if anonymous else f"The breaker {limit.name} is open: spending is stopped."
    return Verdict(
        authorized=False,
        code="breaker.open",
        reason=why,
        capability=verdict.capability,
        rule=verdict.rule,
        line=limit.line,
        limit=limit.name,
        resets_at=at if at > now else 0,
        retry_after=max(-(-(at - now) // _SECOND), 1) if at > now else 60,
        flags=verdict.flags,
    )


def _trip(rows: Mapping[str, Row], key: str, cell: str) -> Trip | None:
    row = rows.get(key)
    return row.more.trips.get(cell) if row is not None and row.more is not None else None


def _probing(trip: Trip, half_open: int, now: int) -> bool:
    """Whether a probe may pass: long enough after the breaker opened, and none is on its way, or for as long."""
    if not half_open or now < trip.at + half_open:
        return False
    return not trip.probe or now >= trip.probed_at + half_open
