"""What the kinds of receipts say that a ledger writes by itself; that of a decision is made where it is decided."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from afmiddleware.model.receipt import Draft, Filled, Form, OutcomeBody
from afmiddleware.receipts.forms import form_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.entry import Order
    from afmiddleware.model.outcome import End, Outcome, Settlement
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
) -> Draft:
    """The `outcome` of an intent, named by its leaf hash.

    `booked.captured` is what stays counted, in minor units of `currency`, which is empty where no money was asked for;
    `overrun` is the part of it that was not reserved.
    """
    captured = "" if not currency or booked.captured is None else str(booked.captured)
    said = (capability, currency, exponent, booked.end, booked.settlement, booked.status)
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
    *,
    free: bool = False,
) -> Form:
    """What the outcomes of many actions have in common; `free` where no amount is said."""
    body = _outcome(capability, currency, exponent, end, settlement, status)
    return form_of("outcome", body, ("id", "ref") if free else ("captured", "id", "ref"))


def _outcome(  # noqa: PLR0913 (one argument a member)
    capability: str,
    currency: str,
    exponent: int,
    end: End,
    settlement: Settlement,
    status: int,
    *,
    captured: str = "",
    id: str = "",  # noqa: A002 (the member's name)
    overrun: str | UnsetType = UNSET,
    ref: str = "",
) -> OutcomeBody:
    return OutcomeBody(
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


def operation(owner: str, order: Order) -> Draft:
    """What an operator ordered. Whom it concerns, who ordered it and why stand in it only as commitments."""
    body: dict[str, Value] = {
        "operation": order.what,
        "name": order.name,
        "value": str(order.value),
        "override": order.override,
    }
    return Draft("operation", owner, body, {"target": order.key, "by": order.by, "reason": order.reason})


def aggregate(owner: str, since: int, until: int, counts: Mapping[tuple[str, str], int]) -> Draft:
    """How many requests of unproven callers were refused between two times, by reason code and route."""
    listed: list[Value] = [{"code": code, "route": route, "n": n} for (code, route), n in sorted(counts.items())]
    body: dict[str, Value] = {"since": since, "until": until, "counts": listed}
    return Draft("aggregate", owner, body, _NONE)
