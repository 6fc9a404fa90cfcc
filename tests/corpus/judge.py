"""The judge: whether a handler acted on exactly what was admitted."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from afmiddleware.grammar.templates import normal
from tests.corpus.site import Endpoint, Intent, endpoints


class Act(msgspec.Struct, frozen=True):
    """What a handler noted, before it did anything else."""

    name: str
    case: str
    method: str
    path: str
    query: str
    params: dict[str, str]
    body: str | None
    amount: str | None
    to: Any
    event: dict[str, Any] | None


def acts(marks: Path, offset: int = 0) -> list[Act]:
    """The acts noted after the first `offset` bytes of the file."""
    lines = marks.read_bytes()[offset:].splitlines()
    return [msgspec.convert(json.loads(line), Act) for line in lines]


def differences(act: Act, intent: Intent | None) -> list[str]:
    """In what an act is not what was admitted: the event its handler held, and the admission in the ledger."""
    endpoint = endpoints()[act.name]
    event = act.event
    if endpoint.public:
        return [] if event is None else ["a public endpoint ran as an admitted action"]
    if event is None:
        return ["it ran without an admitted event"]
    found = [
        f"{what}: acted on {acted!r}, admitted was {admitted!r}"
        for what, acted, admitted in _compared(act, endpoint, event)
        if acted != admitted
    ]
    if intent is None:
        return [*found, f"no admission {event['seq']} is in the ledger"]
    amount = event["amount"]
    pairs = [
        ("capability", event["capability"], intent.body["capability"]),
        ("route", event["route"], intent.body["route"]),
        ("amount", "" if amount is None else str(amount[0]), intent.body["amount"]),
        ("resource", event["resource"], intent.told["resource"]),
        ("recipient", event["recipient"], intent.told["recipient"]),
        ("verdict", "allow", intent.body["verdict"]),
    ]
    if not endpoint.digest or act.body is not None:
        # Where a framework has read a form, its bytes are gone, and the amount alone speaks for them.
        pairs.append(("request", _digest(act, endpoint), intent.told["request"]))
    return found + [
        f"{what}: acted on {acted!r}, the receipt says {told!r}" for what, acted, told in pairs if acted != told
    ]


def _compared(act: Act, endpoint: Endpoint, event: dict[str, Any]) -> list[tuple[str, object, object]]:
    fixed = "amount" in endpoint.route and not endpoint.unit
    amount = event["amount"]
    return [
        ("capability", endpoint.route["capability"].format_map(act.params), event["capability"]),
        ("route", normal_key(endpoint.key), normal_key(event["route"])),
        ("method", "GET" if act.method == "HEAD" else act.method, event["method"]),
        ("amount", amount and amount[0] if fixed else _minor(act, endpoint, amount), amount and amount[0]),
        ("resource", endpoint.names.format_map(act.params) if endpoint.names else None, event["resource"]),
        ("recipient", act.to, event["recipient"]),
    ]


def _minor(act: Act, endpoint: Endpoint, amount: list[Any] | None) -> int | str | None:
    """What the handler acts on in minor units, exactly; text where it is no number of them."""
    if act.amount is None:
        return None
    try:
        exact = Decimal(act.amount)
    except InvalidOperation:
        return act.amount
    if not exact.is_finite():
        return act.amount
    scaled = exact.scaleb(amount[2] if amount and endpoint.unit == "major" else 0)
    return int(scaled) if scaled == scaled.to_integral_value() else act.amount


def _digest(act: Act, endpoint: Endpoint) -> str:
    """The digest of the request that the handler saw, as the receipt of what was judged must have it."""
    method = "GET" if act.method == "HEAD" else act.method
    target = normal_key(f"{method} {endpoint.key.partition(' ')[2]}")
    head = (
        f"{act.method}\0{target}\0{act.path}\0".encode("utf-8", "surrogatepass") + act.query.encode("latin-1") + b"\0"
    )
    if endpoint.digest:
        head += b"\1" + bytes.fromhex(act.body or "")
    return hashlib.sha256(head).hexdigest()


def normal_key(key: str) -> str:
    method, _, template = key.partition(" ")
    return f"{method} {normal(template)}"
