"""Deciding charges: which limit refuses, what is counted, what is given back."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.grammar.amounts import to_major
from afmiddleware.limits.breaker import trip
from afmiddleware.limits.cells import add, credit, frees_at, new_cell, resets_at, roll, spend_cell
from afmiddleware.limits.rows import Line, Row
from afmiddleware.model.limit import Balances, Charge, Limit, Unit
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.limits.cells import Cell
    from afmiddleware.model.limit import Window

_SECOND = 1_000_000
_LIMIT: Final = attrgetter("limit")
_CAP: Final = attrgetter("cap")
_TOTAL: Final = attrgetter("total")
_SPOKEN: Final = {"day": "today", "total": "in total", "session": "in this session"}


def weigh(charges: Sequence[Charge], rows: dict[str, Row], now: int) -> tuple[list[Cell], int]:
    """The counter of each charge, moved to `now`, and the place of the first that has no room for it, or -1.

    Rows and counters that are missing are made empty.
    """
    cells: list[Cell] = []
    full = -1
    for charge in charges:
        limit = charge.limit
        try:
            cell = rows[charge.key].cells[limit.cell]
        except KeyError:
            row = rows.setdefault(charge.key, Row({}))
            cell = row.cells[limit.cell] = new_cell(limit, now)
        if now >= cell.until or not cell.total:
            roll(cell, now, limit.window)
        if charge.amount > limit.cap - cell.total and full < 0:
            full = len(cells)
        cells.append(cell)
    return cells, full


def count_rates(
    charges: Sequence[Charge],
    cells: Sequence[Cell],
    *,
    passes: bool,
    over: bool = False,
    full: int = -1,
) -> None:
    """Count a judged request under every rate that has room for it; with `over`, under the full ones too.

    Rates of what was admitted count it only when it `passes`. What a rate refuses (`full` is its place, or -1) does not
    count in the blocks around an address: one address could fill them for all its neighbours.
    """
    for charge, cell in zip(charges, cells, strict=True):
        limit = charge.limit
        if limit.admitted and not passes:
            continue
        if over or (charge.amount <= limit.cap - cell.total and (full < 0 or not limit.wide)):
            add(cell, charge.amount)


def uncount_admitted(charges: Sequence[Charge], cells: Sequence[Cell]) -> None:
    """Take back what `count_rates` has just counted only because the request was to pass, and then did not."""
    for charge, cell in zip(charges, cells, strict=True):
        if charge.limit.admitted:
            credit(cell, cell.until, charge.amount)


def count_spends(charges: Sequence[Charge], cells: Sequence[Cell]) -> list[Line]:
    """Count money under every limit, all at once; the caller has seen that it fits. Returns how to give it back."""
    lines = []
    for charge, cell in zip(charges, cells, strict=True):
        limit, amount = charge.limit, charge.amount
        trips_over = limit.cap if limit.on_exceed == "trip" else -1
        lines.append(Line(charge.key, limit.cell, add(cell, amount), amount, limit.window, trips_over))
    return lines


def give_back(lines: Sequence[Line], rows: Mapping[str, Row], amount: int | None = None) -> list[Line]:
    """Credit each counter with `amount` minor units, all without one, in the windows that were charged, the last first.

    Returns what stays counted; lines of which nothing does are among them.
    """
    left: dict[tuple[str, str], int] = {}
    kept: list[Line] = []
    for line in reversed(lines):
        name = line.key, line.cell
        rest = line.amount if amount is None else left.get(name, amount)
        back = min(rest, line.amount)
        left[name] = rest - back
        row = rows.get(line.key)
        cell = row.cells.get(line.cell) if row is not None else None
        if cell is not None and back:
            credit(cell, line.mark, back)
        kept.append(replace(line, amount=line.amount - back) if back else line)
    return kept[::-1]


def overrun(lines: Sequence[Line], rows: dict[str, Row], extra: int, now: int) -> list[Line]:
    """Book `extra` minor units beyond what was reserved, into the windows of now, over the cap if need be.

    Returns all that is counted then. A counter that was forgotten since begins anew.
    """
    counted = list(lines)
    for place, line in {(line.key, line.cell): (place, line) for place, line in enumerate(lines)}.values():
        row = rows.setdefault(line.key, Row({}))
        cell = row.cells.get(line.cell)
        if cell is None:
            cell = row.cells[line.cell] = spend_cell(line.window, now)
        roll(cell, now, line.window)
        mark = add(cell, extra)
        if mark == line.mark:
            counted[place] = replace(line, amount=line.amount + extra)
        else:
            counted.append(replace(line, mark=mark, amount=extra))
        if 0 <= line.trips_over < cell.total:
            trip(row, line.cell, now)
    return counted


def balances(charges: Sequence[Charge], cells: Sequence[Cell]) -> Balances:
    """How the limits stand, and when some of what is used of each comes back."""
    limits = tuple(map(_LIMIT, charges))
    return Balances(limits, tuple(map(_TOTAL, cells)), tuple(map(frees_at, cells, map(_CAP, limits))))


def refuse(verdict: Verdict, charge: Charge, cell: Cell, now: int, *, anonymous: bool) -> Verdict:
    """The verdict when `charge` does not fit: which limit, what is left, when there is room again."""
    limit = charge.limit
    at = resets_at(cell, charge.amount, limit.cap)
    rate = limit.unit is Unit.RATE
    return Verdict(
        authorized=False,
        code="rate.exceeded" if rate else "spend.exceeded",
        reason=_reason(limit, cell.total, charge.amount, anonymous=anonymous),
        capability=verdict.capability,
        rule=verdict.rule,
        line=limit.line,
        limit=limit.name,
        remaining=amount_text(limit, max(limit.cap - cell.total, 0)) if limit.told and (rate or not anonymous) else "",
        resets_at=at,
        retry_after=max(-(-(at - now) // _SECOND), 1) if at else 0,
        flags=verdict.flags,
    )


def amount_text(limit: Limit, amount: int) -> str:
    """A count of requests, or money such as `12.50 USD`, under `limit`."""
    return str(amount) if limit.unit is not Unit.SPEND else f"{to_major(amount, limit.exponent)} {limit.currency}"


def cap_text(limit: Limit) -> str:
    """The cap of a limit, or the claim that says it."""
    return f"claim {limit.claim}" if limit.claim else amount_text(limit, limit.cap)


def window_text(window: Window) -> str:
    """The time a limit looks at, such as `day` or `rolling 60s`."""
    return f"{window.kind} {window.seconds}s" if window.seconds and window.kind != "session" else window.kind


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _reason(limit: Limit, used: int, asked: int, *, anonymous: bool) -> str:
    kind, seconds = limit.window.kind, limit.window.seconds
    window = _SPOKEN.get(kind) or (f"in {seconds} s" if seconds else f"this {kind}")
    if anonymous:
        return f"The limit {limit.name} is reached."
    if kind == "pacing":
        return f"The limit {limit.name} lets {_requests(limit.quota)} pass {window}, evenly spaced."
    if limit.unit is Unit.RATE:
        return f"The limit {limit.name} lets {_requests(limit.cap)} pass {window}."
    if not limit.own:
        # How much is left would tell what others have spent.
        return f"This does not fit under the limit {limit.name}, which counts more callers."
    return (
        f"{amount_text(limit, asked)} does not fit under the limit {limit.name}: {amount_text(limit, used)} of "
        f"{amount_text(limit, limit.cap)} is used {window}."
    )
