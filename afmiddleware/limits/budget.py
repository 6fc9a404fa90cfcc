"""How the limits of one actor stand: used, held, remaining, and when some comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.limits.cells import resets_at, roll
from afmiddleware.limits.judge import own_limit
from afmiddleware.limits.keys import row_key
from afmiddleware.model.limit import Unit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from afmiddleware.limits.rows import Hold, Row
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.limit import Limit


_KNOWN: Final = frozenset({"actor", "principal", "session", "tenant", "address"})
"""What is known of a caller before it does anything."""


class Standing(msgspec.Struct, frozen=True):
    """One limit of one actor. Amounts are requests or minor units; `held` is the part of `used` that is not settled.

    `resets_at` is in microseconds since the epoch, 0 for never; `tripped_at`, likewise, is when the breaker
    opened, 0 for one that is closed.
    """

    limit: Limit
    used: int
    held: int
    remaining: int
    resets_at: int
    tripped_at: int = 0

    @property
    def tripped(self) -> bool:
        """Whether the breaker is open."""
        return self.tripped_at > 0


def own_key(limit: Limit, actor: Actor, address: str) -> str:
    """The row of a limit that counts what this caller does and nobody else; empty where there is none, or several."""
    return key_of(limit, actor, address, _KNOWN) if limit.own else ""


def key_of(limit: Limit, actor: Actor, address: str, known: Collection[str]) -> str:
    """The row of a limit that counts an actor of whom these keys are `known`; empty where they do not tell it."""
    capability = limit.capability if "*" not in limit.capability else ""
    if set(limit.per.split("+")) - {*known, "global", *(["capability"] if capability else [])}:
        return ""
    return row_key(limit.per, actor, capability, None, lambda: address)


def standings(
    limits: Iterable[tuple[str, Limit]],
    actor: str,
    rows: Mapping[str, Row],
    now: int,
    holds: Iterable[Hold] = (),
) -> list[Standing]:
    """How limits stand at `now`, each in the row of its key, under the caps that were set for the actor.

    `rows` are changed: give copies; `actor:` and the actor is among them. `holds` are the reservations that are not
    settled; without them nothing is known to be held.
    """
    held: dict[tuple[str, str], int] = {}
    for hold in holds:
        for line in hold.lines:
            held[line.key, line.cell] = held.get((line.key, line.cell), 0) + line.amount
    mine = rows.get(f"actor:{actor}")
    caps = mine.more.caps if mine is not None and mine.more is not None else {}
    return [_standing(own_limit(limit, caps), key, rows, held, now) for key, limit in limits]


def _standing(
    limit: Limit, key: str, rows: Mapping[str, Row], held: Mapping[tuple[str, str], int], now: int
) -> Standing:
    row = rows.get(key)
    more = row.more if row is not None else None
    if limit.unit is Unit.CONCURRENT:
        running = sum(more.busy.get(limit.cell, {}).values()) if more is not None else 0
        return Standing(limit, running, running, max(limit.cap - running, 0), 0)
    cell = row.cells.get(limit.cell) if row is not None else None
    trip = more.trips.get(limit.cell) if more is not None else None
    tripped_at = trip.at if trip is not None else 0
    if cell is None:
        return Standing(limit, 0, 0, limit.cap, 0, tripped_at)
    roll(cell, now, limit.window)
    left = max(limit.cap - cell.total, 0)
    at = resets_at(cell, left + 1 if cell.total and left < limit.cap else 1, limit.cap) if cell.total else 0
    return Standing(limit, cell.total, min(held.get((key, limit.cell), 0), cell.total), left, at, tripped_at)
