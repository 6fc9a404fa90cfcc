"""Caps that a caller's own issuer sets: `spend: {from: claim.daily_max}`. Without the claim nothing may be spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from afmiddleware.errors import GrammarError, MappingError
from afmiddleware.grammar.amounts import minor_from_text, to_minor
from afmiddleware.model.codes import IDENTITY_REQUIRED, IDENTITY_SCOPE

if TYPE_CHECKING:
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.limit import Limit


def with_claim(limit: Limit, actor: Actor) -> Limit:
    """A limit as it is for an actor, whose token says its cap.

    The claim is an amount by the grammar of `grammar.amounts`, with or without the limit's currency behind it: `500`,
    `"500.00"`, `"500 USD"`. Raises `MappingError` (`identity.scope`, or `identity.required` of whom nothing is
    known) when there is none, or none that is one.
    """
    if not limit.claim:
        return limit
    text = dict(actor.caps).get(limit.claim)
    try:
        cap = _minor(limit, text) if text is not None else -1
    except GrammarError:
        cap = -1
    if cap < 0:
        problem = "lacks" if text is None else "has no amount in"
        why = f"The credential {problem} the claim {limit.claim}, from which the limit {limit.name} takes its cap."
        raise MappingError(IDENTITY_REQUIRED if actor.anonymous else IDENTITY_SCOPE, why)
    return replace(limit, cap=min(cap, limit.cap))


def _minor(limit: Limit, text: str) -> int:
    amount, _, currency = text.partition(" ")
    if currency not in ("", limit.currency):
        return -1
    return minor_from_text(amount) if limit.minor else to_minor(amount, limit.exponent)
