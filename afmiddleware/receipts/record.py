"""What the kinds of receipts say that a ledger writes by itself; that of a decision is made where it is decided."""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from afmiddleware.model.receipt import Draft, Filled, Form, OutcomeBody
from afmiddleware.receipts.forms import form_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.entry import InForce, NewEpoch, Order
    from afmiddleware.model.outcome import End, Outcome, Settlement
    from afmiddleware.model.receipt import Value

WINDOW: Final = 10_000_000
"""Of how many microseconds one aggregate counts the refusals that have no receipt of their own."""

_NONE: Final[Mapping[str, str | None]] = MappingProxyType({})
_DECISION: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TIME: Final = 14
_DOUBT: Final = 3600 * 1_000_000


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
    captured = "" if not currency or booked.captured is None else str(booked.captured)
    said = (capability, currency, exponent, booked.end, booked.settlement, booked.status, by)
    if overrun:
        body = _outcome(*said, captured=captured, id=id, overrun=str(overrun), ref=intent.hex())
        return Draft("outcome", owner, body, _NONE)
    if not captured:
        return Draft("outcome", owner, Filled(_form(*said, free=True), id, then=(quoted(id),), last=(intent.hex(),)))
    return Draft("outcome", owner, Filled(_form(*said), id, then=(captured, quoted(id)), last=(intent.hex(),)))


@lru_cache(maxsize=1024)
def _form(  # noqa: PLR0913 (one argument a member)
    capability: str,
    currency: str,
    exponent: int,
    end: End,
    settlement: Settlement,
    status: int,
    by: str,
    *,
    free: bool = False,
) -> Form:
    """What the outcomes of many actions have in common; `free` where no amount is said."""
    body = _outcome(capability, currency, exponent, end, settlement, status, by)
    return form_of("outcome", body, ("id", "ref") if free else ("captured", "id", "ref"))


def _outcome(  # noqa: PLR0913 (one argument a member)
    capability: str,
    currency: str,
    exponent: int,
    end: End,
    settlement: Settlement,
    status: int,
    by: str,
    *,
    captured: str = "",
    id: str = "",  # noqa: A002 (the member's name)
    overrun: str | UnsetType = UNSET,
    ref: str = "",
) -> OutcomeBody:
    return OutcomeBody(
        by=by or UNSET,
        capability=capability,
        captured=captured,
        currency=currency,
        end=end,
        exponent=exponent,
        id=id,
        overrun=overrun,
        ref=ref,
        settlement=settlement,
        status=status,
    )


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


def refund(  # noqa: PLR0913 (one argument a member)
    id: str,  # noqa: A002 (the member's name)
    owner: str,
    capability: str,
    intent: bytes,
    currency: str,
    exponent: int,
    *,
    amount: int,
    left: int,
    by: str,
) -> Draft:
    """That `amount` minor units of what an action captured were given back by another decision; `left` still count."""
    body: dict[str, Value] = {
        "id": id,
        "capability": capability,
        "ref": intent.hex(),
        "refunded": str(amount),
        "captured": str(left),
        "currency": currency,
        "exponent": exponent,
        "by": by,
    }
    return Draft("refund", owner, body, _NONE)


def operation(owner: str, order: Order) -> Draft:
    """What an operator ordered. Whom it concerns, who ordered it and why stand in it only as commitments."""
    body: dict[str, Value] = {
        "operation": order.what,
        "name": order.name,
        "value": str(order.value),
        "override": order.override,
    }
    return Draft("operation", owner, body, {"target": order.key, "by": order.by, "reason": order.reason})


def policy_change(owner: str, old: tuple[str, str], new: InForce, generation: int) -> Draft:
    """That another policy decides from here on; `old` is the one before, digest and mode, empty where not known.

    `generation` is the number of what is in force then.
    """
    body: dict[str, Value] = {
        "id": "",
        "old_policy": old[0],
        "old_mode": old[1],
        "policy": new.policy,
        "mode": new.mode,
        "cause": new.cause,
        "generation": generation,
    }
    return Draft("policy", owner, body, {"by": new.by or None, "reason": new.reason or None})


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


def window_of(decision: str, now: int) -> int:
    """The beginning of the window that a decision without a receipt of its own is counted in, in microseconds.

    A decision's id begins with its time; for any other id, and for a time that is not about `now`, `now` decides.
    """
    at = decided_at(decision)
    return (at if abs(at - now) < _DOUBT else now) // WINDOW * WINDOW


def decided_at(decision: str) -> int:
    """When a decision was made, in microseconds since the epoch, by its id; 0 for an id that does not tell."""
    return int(decision[:_TIME], 16) if _DECISION.fullmatch(decision) else 0


def counted_as(decision: str) -> str:
    """The id of the aggregates in which a decision is counted when it has no receipt; empty when the id has no time."""
    at = decided_at(decision)
    return _counted(at // WINDOW * WINDOW) if at else ""


def aggregates(owner: str, counts: Mapping[tuple[int, str, str], int]) -> list[Draft]:
    """How many requests of unproven callers were refused, by reason code and route: one record for each window."""
    drafts = []
    for window in sorted({window for window, _, _ in counts}):
        listed: list[Value] = [
            {"code": code, "route": route, "n": n} for (at, code, route), n in sorted(counts.items()) if at == window
        ]
        body: dict[str, Value] = {
            "id": _counted(window),
            "since": window,
            "until": window + WINDOW,
            "counts": listed,
        }
        drafts.append(Draft("aggregate", owner, body, _NONE))
    return drafts


def _counted(window: int) -> str:
    return f"counted:{window:0{_TIME}x}"
