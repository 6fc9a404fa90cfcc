"""What each kind of receipt says: the plain members, and the private ones that stand in it only as commitments."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from afmiddleware.model.receipt import Draft
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.model.actor import Actor
    from afmiddleware.model.limit import Charge
    from afmiddleware.model.money import Money
    from afmiddleware.model.outcome import Outcome
    from afmiddleware.model.receipt import ReceiptRef, Value
    from afmiddleware.model.verdict import Verdict

PRIVATE: Final = ("actor", "credential", "on_behalf_of", "payload", "peer", "recipient", "request", "resource")
"""The private members of `intent` and `refusal`; all are always there, so that presence tells nothing."""

_TIERS: Final = tuple(tier.label for tier in Tier)
_NONE: Final[Mapping[str, str | None]] = MappingProxyType({})


def decision(  # noqa: PLR0913 (one argument a member)
    *,
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    passes: bool,
    verdict: Verdict,
    capability: str,
    actor: Actor,
    route: str,
    money: Money | None,
    charges: Sequence[Charge],
    policy: str,
    mode: str,
    environment: str,
    category: str,
    network: str,
    private: dict[str, str | None],
) -> Draft:
    """An `intent` (the handler is about to run) or a `refusal` (it does not).

    `money` is what the action asks for; `policy` the hex digest of the policy that decided. `private` has every
    member of `PRIVATE`.
    """
    body: dict[str, Value] = {
        "id": id,
        "capability": capability,
        "route": route,
        "verdict": "allow" if verdict.authorized else "refuse",
        "code": verdict.code,
        "rule": verdict.rule,
        "limit": verdict.limit,
        "tier": _TIERS[actor.tier],
        "proof": actor.proof,
        "policy": policy,
        "mode": mode,
        "environment": environment,
        "flags": list(verdict.flags),
        "category": category,
        "network": network,
        "charges": [
            {
                "limit": charge.limit.name,
                "unit": "spend" if charge.limit.currency else "rate",
                "n": str(charge.amount),
            }
            for charge in charges
        ],
        "amount": "" if money is None else str(money.minor),
        "currency": "" if money is None else money.currency,
        "exponent": 0 if money is None else money.exponent,
    }
    return Draft(kind="intent" if passes else "refusal", owner=owner, body=body, private=private)


def outcome(  # noqa: PLR0913 (one argument a member)
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    capability: str,
    intent: ReceiptRef,
    money: Money | None,
    booked: Outcome,
) -> Draft:
    """The `outcome` of an intent. `booked.captured` is what stays counted, in minor units."""
    body: dict[str, Value] = {
        "id": id,
        "capability": capability,
        "ref": intent.leaf.hex(),
        "settlement": booked.settlement.value,
        "end": booked.end.value,
        "status": booked.status,
        "captured": "" if money is None or booked.captured is None else str(booked.captured),
        "currency": money.currency if money is not None else "",
        "exponent": money.exponent if money is not None else 0,
    }
    return Draft(kind="outcome", owner=owner, body=body, private=_NONE)


def aggregate(owner: str, since: int, until: int, counts: Mapping[tuple[str, str], int]) -> Draft:
    """How many requests of unproven callers were refused between two times, by reason code and route."""
    listed: list[Value] = [{"code": code, "route": route, "n": n} for (code, route), n in sorted(counts.items())]
    return Draft(kind="aggregate", owner=owner, body={"since": since, "until": until, "counts": listed}, private=_NONE)
