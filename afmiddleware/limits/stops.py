"""What the operator has frozen: one actor, one capability pattern, or everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.grammar.capability import pattern_regex
from afmiddleware.limits.strangers import blocks
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Entry

CONTROL: Final = "control"
"""The key of the row that holds what is frozen for everybody: capability patterns, `**` for all."""


def stopped(verdict: Verdict, entry: Entry, rows: Mapping[str, Row]) -> Verdict:
    """The verdict, or a refusal when the operator has frozen the actor or the capability."""
    for name in names_of(entry):
        row = rows.get(f"actor:{name}")
        if row is not None and row.more is not None and row.more.frozen:
            return _refused(verdict, "actor.frozen", "The operator has frozen this caller.")
    row = rows.get(CONTROL)
    if row is not None and row.more is not None:
        for pattern in row.more.frozen:
            if pattern_regex(pattern).fullmatch(entry.capability):
                return _refused(verdict, "capability.frozen", "The operator has stopped this action.")
    return verdict


def names_of(entry: Entry) -> tuple[str, ...]:
    """Whom the operator may have frozen: the actor, and the blocks that an address lies in."""
    return named(entry.actor) if entry.actor else (entry.owner,)


def named(actor: str) -> tuple[str, ...]:
    """An actor, and the blocks that it lies in when it is an address."""
    return (actor, *[name for name, _ in blocks(actor)])


def _refused(verdict: Verdict, code: str, reason: str) -> Verdict:
    return Verdict(authorized=False, code=code, reason=reason, capability=verdict.capability, rule=verdict.rule)
