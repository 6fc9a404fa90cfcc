"""Reading the stored body of a receipt for a check: canonical bytes, and values that fit their commitments.

The bodies that every request makes are read by their types, and are canonical when their types write the same bytes
again. Whatever is not read like that is read as any object, which is slower and can say what is wrong.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import DecisionBody, OutcomeBody
from afmiddleware.receipts.canonical import encode, is_plain, parse
from afmiddleware.receipts.chain import SALT_BYTES, VERSION, commitment, labels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from afmiddleware.model.receipt import Receipt

_SHOWN: Final = 80
_NO_COMMITMENTS: Final[Mapping[str, str]] = MappingProxyType({})


class FaultError(Exception):
    """What is wrong; with the receipt under check unless another `seq` is named."""

    def __init__(self, code: str, reason: str, seq: int = 0) -> None:
        self.code = code
        self.reason = reason
        self.seq = seq
        super().__init__(reason)


class Plain(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The members that a check reads, with their types: `true` is no number and an absent member no text."""

    log: str
    seq: int
    ts: int
    kind: str
    prev: str
    owner: str
    oseq: int
    oprev: str
    kid: str
    c: dict[str, str] = {}
    clock_back: bool = False
    id: str = ""
    capability: str = ""
    verdict: str = ""
    code: str = ""
    ref: str = ""
    new_key: str = ""
    fields: list[str] = []
    seqs: list[int] = []
    withheld: list[str] = []


Read = Plain | DecisionBody | OutcomeBody
"""A body as it was read."""

_BEGUN: Final = sha256(b"afm/c1")  # what every commitment begins with; a copy of it is quicker than a new one
_decision = msgspec.json.Decoder(DecisionBody).decode
_outcome = msgspec.json.Decoder(OutcomeBody).decode
_again = msgspec.json.Encoder().encode


def read_body(data: bytes, kind: object) -> Read:
    """Read a body, of which the ledger says that it is of `kind`. Raises `FaultError` for one that is not canonical."""
    if kind in ("intent", "refusal"):
        return _usual_decision(data) or _any(data)
    if kind == "outcome":
        return _usual_outcome(data) or _any(data)
    return _any(data)


def _usual_decision(data: bytes) -> DecisionBody | None:
    try:
        body = _decision(data)
    except msgspec.MsgspecError:
        return None
    # The types sort their own members and bound their integers; the maps inside are checked here, `c` with its values.
    if body.v != VERSION or _again(body) != data:
        return None
    for one in body.charges:
        if not _in_order(tuple(one)):
            return None
    return body


def _usual_outcome(data: bytes) -> OutcomeBody | None:
    try:
        body = _outcome(data)
    except msgspec.MsgspecError:
        return None
    return body if body.v == VERSION and _again(body) == data else None


def _any(data: bytes) -> Plain:
    try:
        body = parse(data)
        if encode(body) != data:
            raise FaultError("body.not_canonical", "its bytes are not the canonical ones of what they say")
        if body.get("v") != VERSION:
            raise FaultError("body.version", f"version {shown(body.get('v'))} is not known")
        return msgspec.convert(body, Plain)
    except (ReceiptError, msgspec.ValidationError) as error:
        raise FaultError("body.malformed", str(error)) from error


@lru_cache(maxsize=1024)
def _in_order(names: tuple[str, ...]) -> bool:
    """Whether names of a map are made as they must be, and stand in their order. The same few come again and again."""
    return is_plain(names) and [*names] == sorted(names)


def missing_of(body: Read, receipt: Receipt) -> Collection[str]:
    """Which commitments have no value beside them and are not said to be withheld.

    Raises `FaultError` for a value that is not the one committed to, and for commitments that are not canonical.
    """
    disclosed = receipt.disclosed
    if isinstance(body, DecisionBody):
        if bytes(body.c) == _commitments(disclosed):
            return ()
        # Commitments to other values than these are read one by one.
        body = _any(receipt.body)
    known, withheld = (_NO_COMMITMENTS, []) if isinstance(body, OutcomeBody) else (body.c, body.withheld)
    for name, (salt, value) in disclosed.items():
        # A salt of another length could take in part of a value, and so make another value fit.
        if len(salt) != SALT_BYTES or known.get(name) != _commitment(name, salt, value):
            told = f"the value of {shown(name)} beside it is not the one that was recorded"
            raise FaultError("disclosure.mismatch", told)
    return known.keys() - disclosed.keys() - {*withheld}


def _commitments(disclosed: Mapping[str, tuple[bytes, str | None]]) -> bytes:
    """What a body holds of these values, and of no others; nothing when no body can hold them."""
    if not disclosed:
        return b"{}"
    made: list[str] = []
    begin = _BEGUN.copy
    try:
        text, framed = _framed(tuple(disclosed))
        for (salt, value), (absent, present) in zip(disclosed.values(), framed, strict=True):
            if len(salt) != SALT_BYTES:
                return b""
            hashed = begin()
            hashed.update(salt + (absent if value is None else present + value.encode()))
            made.append(hashed.hexdigest())
    except (UnicodeEncodeError, ValueError):
        return b""
    return (text % (*made,)).encode()


def _commitment(name: str, salt: bytes, value: str | None) -> str:
    try:
        return commitment(name, salt, value)
    except ReceiptError:
        return ""


@lru_cache(maxsize=1024)
def _framed(names: tuple[str, ...]) -> tuple[str, tuple[tuple[bytes, bytes], ...]]:
    """Commitments in canonical text with a blank each, and the `chain.labels` of their names; none for other names.

    The same few names come again and again.
    """
    if not _in_order(names):
        return "", ()
    text = ",".join(f'"{name}":"%s"' for name in names)
    return f"{{{text}}}", tuple(labels(name) for name in names)


def shown(value: object) -> str:
    """A value of somebody else's making, short and without what a terminal would obey."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
