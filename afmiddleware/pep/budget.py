"""A caller's own budget, as the fence tells it: what of each limit is used and left. Never what others have spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from afmiddleware.errors import MappingError
from afmiddleware.grammar.amounts import to_major
from afmiddleware.identity.address import address_key
from afmiddleware.limits.budget import own_key, standings
from afmiddleware.limits.charge import window_text
from afmiddleware.limits.claimed import with_claim
from afmiddleware.model.limit import Unit
from afmiddleware.pep.respond import instant

if TYPE_CHECKING:
    from afmiddleware.fence import Fence
    from afmiddleware.limits.budget import Standing
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.limit import Limit


def budget_of(fence: Fence, actor: Actor, peer: str) -> bytes:
    """The budget of a caller as JSON: `{"actor", "frozen", "limits": [...]}`.

    Of a limit `used`, `held` (the part of it that is not settled), `cap` and `remaining` are numbers of requests, or
    texts of major units of `currency`; `resets_at` is when some of it comes back (RFC 3339, UTC), and there where that
    is known. Left out are limits that count other callers too, and those with a counter for each value of a payload.
    Raises `LedgerUnavailableError`.
    """
    address = address_key(peer) if peer else ""
    found = [(own_key(limit, actor, address), _claimed(limit, actor)) for limit in fence.plan.limits.of_actor(actor.id)]
    mine = [(key, limit) for key, limit in found if key]
    row = f"actor:{actor.id}"
    rows = fence.ledger.rows(sorted({key for key, _ in mine} | {row}))
    more = rows[row].more if row in rows else None
    held = [hold for state in ("held", "unknown") for _, hold in fence.ledger.holds(state, actor.id)]
    told = [_told(one) for one in standings(mine, actor.id, rows, fence.clock(), held)]
    return json.dumps({"actor": actor.id, "frozen": bool(more is not None and more.frozen), "limits": told}).encode()


def _claimed(limit: Limit, actor: Actor) -> Limit:
    """A limit with the cap that the caller's token says, nothing where it says none."""
    try:
        return with_claim(limit, actor)
    except MappingError:
        return replace(limit, cap=0)


def _told(one: Standing) -> dict[str, Any]:
    limit = one.limit
    money = limit.unit is Unit.SPEND

    def amount(value: int) -> int | str:
        return to_major(value, limit.exponent) if money else value

    told = {
        "limit": limit.name,
        "kind": limit.unit.value,
        "capability": limit.capability or "**",
        "per": limit.per.split("+"),
        "window": window_text(limit.window),
        "used": amount(one.used),
        "held": amount(one.held),
        "cap": amount(limit.cap),
        "remaining": amount(one.remaining),
    }
    if money:
        told["currency"] = limit.currency
    if one.resets_at:
        told["resets_at"] = instant(one.resets_at)
    if limit.on_exceed == "trip":
        told["breaker"] = "open" if one.tripped else "closed"
    return told
