"""Logs made in memory, and the ways in which somebody may change them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, cast

from msgspec.structs import replace

from afmiddleware.model.receipt import Draft
from afmiddleware.receipts.anchor import Anchor
from afmiddleware.receipts.chain import NO_LEAF, Head, OwnerHead, append, leaf_hash
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.verify import Report, StoredReceipt, verify

KEYS = ReceiptKeys.derive(bytes(range(32)))
OTHER = ReceiptKeys.derive(bytes(32))
Log = list[StoredReceipt]
Private = dict[str, tuple[bytes, str | None]]
START = Head("afm-test", 0, NO_LEAF, 0)


def drawing() -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: hashlib.shake_256(str(next(numbers)).encode()).digest(size)


def write(drafts: list[Draft], keys: ReceiptKeys = KEYS, head: Head = START, step: int = 10) -> tuple[Log, Head]:
    """A log of drafts; an outcome draft refers to the intent with its id."""
    draw, now = drawing(), 0
    owners: dict[str, OwnerHead] = {}
    leaves: dict[str, str] = {}
    log: Log = []
    for draft in drafts:
        now += step
        body = dict(cast("Mapping[str, Any]", draft.body))
        name = str(body["id"])
        if draft.kind == "outcome":
            body["ref"] = leaves[name]
        draft = replace(draft, body=body)  # noqa: PLW2901 (with its reference)
        made = append(draft, head, owners.get(draft.owner, OwnerHead()), keys, now, draw)
        receipt, head = made.receipt(keys), Head(head.log, made.seq, made.leaf, made.ts)
        owners[draft.owner] = OwnerHead(made.oseq, made.leaf)
        leaves.setdefault(name, receipt.leaf.hex())
        names = ("capability", "verdict", "code")
        columns: dict[str, str | int] = {"kind": draft.kind, "decision": name, "ts": head.ts}
        columns |= {column: str(body.get(column, "")) for column in names}
        log.append(StoredReceipt(receipt=receipt, columns=columns))
    return log, head


DECISION: dict[str, Any] = {
    "capability": "payments.pay",
    "verdict": "allow",
    "code": "policy.allowed",
    "amount": "500",
    "category": "",
    "charges": [{"limit": "day", "n": "500", "unit": "spend"}],
    "currency": "USD",
    "environment": "",
    "exponent": 2,
    "flags": [],
    "limit": "",
    "mode": "enforce",
    "network": "",
    "policy": "d" * 64,
    "proof": "key",
    "route": "POST /pay",
    "rule": "allow[1]",
    "tier": "token",
}
OUTCOME: dict[str, Any] = {
    "capability": "payments.pay",
    "captured": "500",
    "currency": "USD",
    "end": "ok",
    "exponent": 2,
    "settlement": "capture",
    "status": 200,
}


def draft(kind: str, name: str, owner: str = "key:a", *, short: bool = False, **more: str) -> Draft:
    """A draft with the members that every request's has; `short` leaves out those that no check asks for."""
    body = {"id": name} | (OUTCOME if kind == "outcome" else DECISION)
    if short:
        body = {member: said for member, said in body.items() if member in ("id", "capability", "verdict", "code")}
    private = {"actor": owner, "payload": None, "recipient": "acme"} if kind != "outcome" else {}
    return Draft(kind=kind, owner=owner, body=body | more, private=private)


def honest(*, short: bool = False) -> tuple[Log, Head]:
    return write(
        [
            draft("intent", "d1", short=short),
            draft("intent", "d2", "key:b", short=short),
            draft("outcome", "d1", short=short),
            draft("refusal", "d3", short=short),
            draft("outcome", "d2", "key:b", short=short),
            draft("intent", "d4", "key:b", short=short),
        ],
    )


def check(log: Log, head: Head, keys: ReceiptKeys | None = KEYS, anchor: Anchor | None = None) -> Report:
    return verify(log, head, keys, anchor)


def mark(log: Log, size: int) -> Anchor:
    return Anchor(START.log, size, log[size - 1].receipt.leaf)


def with_body(log: Log, place: int, change: Callable[[bytes], bytes], *, rehash: bool = False) -> Log:
    """The log with one body changed; with `rehash` as somebody without the key would hide it."""
    one = log[place]
    body = change(one.receipt.body)
    receipt = replace(one.receipt, body=body)
    if rehash:
        receipt = replace(receipt, leaf=leaf_hash(body))
    return [*log[:place], replace(one, receipt=receipt), *log[place + 1 :]]
