"""What the limits make of a verdict: rates first, then what the operator stopped, then how many run, then money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from afmiddleware.limits.breaker import Guard, guard, probe, refuse_open, trip
from afmiddleware.limits.charge import refuse
from afmiddleware.limits.shared import NO_CAPS, Counted, RecountError
from afmiddleware.limits.slots import first_full, refuse_crowd
from afmiddleware.limits.stops import stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.limits.cells import Cell
    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.limit import Charge, Limit
    from afmiddleware.model.verdict import Verdict

Weights = tuple["Sequence[Cell]", int]
"""What `weigh` says: the counters, and the place of the first that is full, or -1."""


def capped(entry: Entry, rows: Mapping[str, Row]) -> Entry:
    """The entry under the caps that the operator has set for its actor.

    Raises `RecountError` for one that was counted already, under other caps.
    """
    row = rows.get(f"actor:{entry.owner}")
    caps = row.more.caps if row is not None and row.more is not None else NO_CAPS
    if type(entry) is Counted:
        if caps != entry.caps:
            raise RecountError(entry.owner, caps)
        return replace(entry, spends=own_charges(entry.spends, caps)) if caps else entry
    if not caps:
        return entry
    rates, spends, slots = (own_charges(charges, caps) for charges in (entry.rates, entry.spends, entry.slots))
    return replace(entry, rates=rates, spends=spends, slots=slots)


def own_charges(charges: tuple[Charge, ...], caps: Mapping[str, tuple[int, bool]]) -> tuple[Charge, ...]:
    """Charges under the caps that the operator has set for their actor."""
    return tuple(replace(charge, limit=own_limit(charge.limit, caps)) for charge in charges)


def own_limit(limit: Limit, caps: Mapping[str, tuple[int, bool]]) -> Limit:
    """A limit as it is for an actor with caps of its own: narrower, or with an override whatever was set.

    What counts everybody has the same cap for all.
    """
    found = caps.get(limit.name) if limit.per != "global" else None
    if found is None:
        return limit
    cap, override = found
    return replace(limit, cap=cap if override else min(cap, limit.cap))


def judge(  # noqa: PLR0913 (what is known under the lock)
    entry: Entry,
    rates: Weights,
    spends: Weights,
    rows: Mapping[str, Row],
    leases: Mapping[int, int],
    now: int,
    beside: Sequence[Charge] = (),
) -> tuple[Verdict, Guard | None]:
    """The final verdict, and what breakers are to do about it; `beside` are slots of earlier actions of a request."""
    verdict, quiet = entry.verdict, entry.quiet
    cells, full = rates
    if full >= 0:
        at = entry.at if type(entry) is Counted else now
        return refuse(verdict, entry.rates[full], cells[full], at, anonymous=quiet), None
    if not verdict.authorized:
        return verdict, None
    verdict = stopped(verdict, entry, rows)
    if entry.slots and verdict.authorized:
        full = first_full(entry.slots, rows, leases, now, beside)
        if full >= 0:
            verdict = refuse_crowd(verdict, entry.slots[full], anonymous=quiet)
    elif type(entry) is Counted and entry.crowded is not None and verdict.authorized:
        verdict = refuse_crowd(verdict, entry.crowded, anonymous=quiet)
    if not verdict.authorized:
        return verdict, None
    cells, full = spends
    if entry.guarded:
        return _guarded(entry, verdict, cells, rows, now)
    if full >= 0:
        verdict = refuse(verdict, entry.spends[full], cells[full], now, anonymous=quiet)
    return verdict, None


def latch(entry: Entry, guarded: Guard, rows: Mapping[str, Row], now: int, *, passes: bool) -> set[str]:
    """Open the breakers that would be exceeded, and mark the probe that passes. Returns the keys that changed."""
    changed: set[str] = set()
    for place in guarded.trips:
        charge = entry.spends[place]
        trip(rows[charge.key], charge.limit.cell, now)
        changed.add(charge.key)
    for place in guarded.probes if passes else ():
        charge = entry.spends[place]
        probe(rows[charge.key], charge.limit.cell, entry.id, now)
        changed.add(charge.key)
    return changed


def _guarded(
    entry: Entry,
    verdict: Verdict,
    cells: Sequence[Cell],
    rows: Mapping[str, Row],
    now: int,
) -> tuple[Verdict, Guard | None]:
    """Weigh money under limits some of which are breakers."""
    found = guard(entry.spends, cells, rows, now)
    blocking = found.open if found.open >= 0 else found.trips[0] if found.trips else -1
    if blocking >= 0:
        verdict = refuse_open(verdict, entry.spends[blocking], rows, now, anonymous=entry.quiet)
    elif found.full >= 0:
        charge, cell = entry.spends[found.full], cells[found.full]
        return refuse(verdict, charge, cell, now, anonymous=entry.quiet), None
    said = [f"over:{entry.spends[place].limit.name}" for place in found.alerts]
    said += [f"tripped:{entry.spends[place].limit.name}" for place in found.trips]
    said += [f"probe:{entry.spends[place].limit.name}" for place in found.probes if blocking < 0]
    return (replace(verdict, flags=(*verdict.flags, *said)) if said else verdict), found
