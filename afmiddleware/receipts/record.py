"""What the kinds of receipts say that a ledger writes by itself; that of a decision is made where it is decided."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from afmiddleware.model.receipt import Draft, OutcomeBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.entry import InForce, NewEpoch, Order
    from afmiddleware.model.outcome import Outcome
    from afmiddleware.model.receipt import Value

_NONE: Final[Mapping[str, str | None]] = MappingProxyType({})


def outcome(  # noqa: PLR0913 (one argument a member)
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    capability: str,
    intent: bytes,
    currency: str,
    exponent: int,
    booked: Outcome,
    overrun: int = 0,
    by: str = "",
) -> Draft:
    """The `outcome` of an intent, named by its leaf hash.

    `booked.captured` is what stays counted, in minor units of `currency`, which is empty where no money was asked for;
    `overrun` is the part of it that was not reserved, `by` who said so where it was not the handler.
    """
    body = OutcomeBody(
        by=by or UNSET,
        capability=capability,
        captured="" if not currency or booked.captured is None else str(booked.captured),
        currency=currency,
        end=booked.end,
        exponent=exponent,
        id=id,
        overrun=str(overrun) if overrun else UNSET,
        ref=intent.hex(),
        settlement=booked.settlement,
        status=booked.status,
    )
    return Draft("outcome", owner, body, _NONE)


def resolution(  # noqa: PLR0913 (one argument a member)
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    capability: str,
    intent: bytes,
    currency: str,
    exponent: int,
    booked: Outcome,
    *,
    was: str,
    by: str,
) -> Draft:
    """How a reservation whose outcome was not known, or only believed, was settled in the end, and by whom."""
    body: dict[str, Value] = {
        "id": id,
        "capability": capability,
        "ref": intent.hex(),
        "settlement": booked.settlement.value,
        "captured": "" if not currency or booked.captured is None else str(booked.captured),
        "currency": currency,
        "exponent": exponent,
        "was": was,
        "by": by,
    }
    return Draft("resolution", owner, body, _NONE)


def operation(owner: str, order: Order) -> Draft:
    """What an operator ordered. Whom it concerns, who ordered it and why stand in it only as commitments."""
    body: dict[str, Value] = {
        "operation": order.what,
        "name": order.name,
        "value": str(order.value),
        "override": order.override,
    }
    return Draft("operation", owner, body, {"target": order.key, "by": order.by, "reason": order.reason})


def policy_change(owner: str, old: tuple[str, str], new: InForce) -> Draft:
    """That another policy decides from here on; `old` is the one before, digest and mode, empty where not known."""
    body: dict[str, Value] = {
        "id": "",
        "old_policy": old[0],
        "old_mode": old[1],
        "policy": new.policy,
        "mode": new.mode,
        "cause": new.cause,
    }
    return Draft("policy", owner, body, {"by": new.by or None})


def epoch(owner: str, new: NewEpoch) -> Draft:
    """That a log goes on from another, from which something may be missing: what was anchored of it, what was found."""
    log, size, leaf, checkpoint = new.old
    found_log, found_size, found_leaf = new.found
    body: dict[str, Value] = {
        "id": "",
        "old_log": log,
        "old_size": size,
        "old_leaf": leaf,
        "old_checkpoint": checkpoint,
        "found_log": found_log,
        "found_size": found_size,
        "found_leaf": found_leaf,
        "reason": new.reason,
    }
    return Draft("epoch", owner, body, {"by": new.by})


def carried(  # noqa: PLR0913 (one argument a member)
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    capability: str,
    intent: bytes,
    amount: int,
    currency: str,
    exponent: int,
) -> Draft:
    """A reservation of the log before this one that is still open; its outcome names the leaf of this record."""
    body: dict[str, Value] = {
        "id": id,
        "capability": capability,
        "old_ref": intent.hex(),
        "amount": str(amount) if currency else "",
        "currency": currency,
        "exponent": exponent,
    }
    return Draft("carried", owner, body, _NONE)


def aggregate(owner: str, since: int, until: int, counts: Mapping[tuple[str, str], int]) -> Draft:
    """How many requests of unproven callers were refused between two times, by reason code and route."""
    listed: list[Value] = [{"code": code, "route": route, "n": n} for (code, route), n in sorted(counts.items())]
    body: dict[str, Value] = {"since": since, "until": until, "counts": listed}
    return Draft("aggregate", owner, body, _NONE)
