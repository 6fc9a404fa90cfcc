"""Deciding charges: which limit refuses, what is counted, what is given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.grammar.amounts import to_major
from afmiddleware.limits.cells import add, credit, resets_at, roll
from afmiddleware.limits.rows import Line, Row, cell_at
from afmiddleware.model.limit import Balance, Charge, Limit, Unit
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECOND = 1_000_000


def first_full(charges: Sequence[Charge], rows: Mapping[str, Row], now: int) -> Charge | None:
    """The first charge that does not fit under its cap, or `None`."""
    for charge in charges:
        cell = cell_at(rows[charge.key], charge.limit, now)
        if charge.amount > charge.limit.cap - cell.total:
            return charge
    return None


def count_rates(charges: Sequence[Charge], rows: Mapping[str, Row], now: int, *, over: bool = False) -> None:
    """Count a judged request under every rate that has room for it; with `over`, under the full ones too."""
    for charge in charges:
        cell = cell_at(rows[charge.key], charge.limit, now)
        if over or charge.amount <= charge.limit.cap - cell.total:
            add(cell, charge.amount)


def count_spends(charges: Sequence[Charge], rows: Mapping[str, Row], now: int) -> list[Line]:
    """Count money under every limit, all at once; the caller has seen that it fits. Returns how to give it back."""
    lines = []
    for charge in charges:
        limit = charge.limit
        mark = add(cell_at(rows[charge.key], limit, now), charge.amount)
        lines.append(Line(charge.key, limit.cell, mark, charge.amount, limit.window.zone))
    return lines


def give_back(lines: Sequence[Line], rows: Mapping[str, Row], kept: int = 0) -> None:
    """Credit the windows that were charged, but for `kept` minor units of each line."""
    for line in lines:
        row = rows.get(line.key)
        cell = row.cells.get(line.cell) if row is not None else None
        if cell is not None and line.amount > kept:
            credit(cell, line.mark, line.amount - kept)


def overrun(lines: Sequence[Line], rows: Mapping[str, Row], extra: int, now: int) -> None:
    """Book `extra` minor units beyond what was reserved, into the windows of now, over the cap if need be."""
    for line in lines:
        row = rows.get(line.key)
        cell = row.cells.get(line.cell) if row is not None else None
        if cell is not None:
            roll(cell, now, line.zone)
            add(cell, extra)


def balance(charge: Charge, rows: Mapping[str, Row], now: int) -> Balance:
    """How a limit stands, and when what is used of it (or the charge's room) comes back."""
    cell = cell_at(rows[charge.key], charge.limit, now)
    room = min(max(charge.limit.cap - cell.total + 1, 1), charge.limit.cap)
    return Balance(charge.limit, cell.total, resets_at(cell, room, charge.limit.cap))


def refuse(verdict: Verdict, charge: Charge, rows: Mapping[str, Row], now: int, *, anonymous: bool) -> Verdict:
    """The verdict when `charge` does not fit: which limit, what is left, when there is room again."""
    limit = charge.limit
    cell = cell_at(rows[charge.key], limit, now)
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
        remaining="" if anonymous and not rate else amount_text(limit, max(limit.cap - cell.total, 0)),
        resets_at=at,
        retry_after=max(-(-(at - now) // _SECOND), 1) if at else 0,
        flags=verdict.flags,
    )


def amount_text(limit: Limit, amount: int) -> str:
    """A count of requests, or money such as `12.50 USD`, under `limit`."""
    return str(amount) if limit.unit is Unit.RATE else f"{to_major(amount, limit.exponent)} {limit.currency}"


def _reason(limit: Limit, used: int, asked: int, *, anonymous: bool) -> str:
    window = {"day": "today", "total": "in total"}.get(limit.window.kind, f"in {limit.window.seconds} s")
    if anonymous:
        return f"The limit {limit.name} is reached."
    if limit.unit is Unit.RATE:
        return f"The limit {limit.name} lets {limit.cap} requests pass {window}."
    return (
        f"{amount_text(limit, asked)} does not fit under the limit {limit.name}: {amount_text(limit, used)} of "
        f"{amount_text(limit, limit.cap)} is used {window}."
    )
