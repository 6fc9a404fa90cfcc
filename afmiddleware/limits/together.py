"""Deciding the charges of several actions of one request: all of them fit, or none is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.limits.charge import count_spends, give_back, weigh
from afmiddleware.limits.judge import capped, judge
from afmiddleware.limits.rows import Line
from afmiddleware.limits.shared import count_rates, uncount_admitted, weigh_rates
from afmiddleware.model.codes import REQUEST_BATCH_REFUSED
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.limits.breaker import Guard
    from afmiddleware.limits.cells import Cell
    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.limit import Charge


class Weighed(msgspec.Struct):
    """What became of one action: the final verdict, what is reserved, and the counters for its balances."""

    verdict: Verdict
    lines: list[Line]
    rates: list[Cell]
    spends: list[Cell]
    guarded: Guard | None = None


def weigh_together(
    entries: Sequence[Entry],
    rows: dict[str, Row],
    leases: Mapping[int, int],
    now: int,
) -> list[Weighed]:
    """Decide and count the entries in order, each on top of those before it.

    Every action is a judged request of its own under the rates, which count it except by the one that refuses it. When
    one is refused, by the policy or by a limit, what the others reserved is given back and they are refused too; an
    entry that observes is charged whatever becomes of it. Of a trial nothing stays counted but its rates.
    """
    found: list[Weighed] = []
    slots: list[Charge] = []
    entries = [capped(entry, rows) for entry in entries]
    for entry in entries:
        rates, spends = weigh_rates(entry, rows, now), weigh(entry.spends, rows, now)
        verdict, guarded = judge(entry, rates, spends, rows, leases, now, slots)
        passes = verdict.authorized or entry.observe
        count_rates(entry, rates, passes=passes, over=entry.observe)
        lines = count_spends(entry.spends, spends[0]) if passes else []
        slots += entry.slots if passes else ()
        found.append(Weighed(verdict, lines, rates[0], spends[0], guarded))
    refused = not all(one.verdict.authorized or entry.observe for one, entry in zip(found, entries, strict=True))
    if refused or entries[0].trial:
        for one, entry in zip(found, entries, strict=True):
            give_back(one.lines, rows)
            if one.verdict.authorized or entry.observe:
                uncount_admitted(entry, one.rates)
            one.lines = []
            if refused:
                one.verdict = stand_down(one.verdict)
    return found


def stand_down(verdict: Verdict) -> Verdict:
    """The verdict of an action whose sibling was refused; a refusal stays as it is."""
    if not verdict.authorized:
        return verdict
    return Verdict(
        authorized=False,
        code=REQUEST_BATCH_REFUSED,
        reason="Another call of the same request was refused, so none of them runs.",
        capability=verdict.capability,
        rule=verdict.rule,
        line=verdict.line,
        flags=verdict.flags,
    )
