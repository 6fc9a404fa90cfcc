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
from afmiddleware.receipts.canonical import MAX_INTEGER, encode, is_plain, parse
from afmiddleware.receipts.chain import SALT_BYTES, VERSION, labels

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_decision = msgspec.json.Decoder(DecisionBody).decode
_outcome = msgspec.json.Decoder(OutcomeBody).decode
_again = msgspec.json.Encoder().encode


def read_body(data: bytes, kind: str) -> Read:
    """Read a body, of which the ledger says that it is of `kind`. Raises `FaultError` for one that is not canonical."""
    if kind in ("intent", "refusal"):
        found: DecisionBody | OutcomeBody | None = _usual_decision(data)
    elif kind == "outcome":
        found = _usual_outcome(data)
    else:
        found = None
    return found or _any(data)


def _usual_decision(data: bytes) -> DecisionBody | None:
    try:
        body = _decision(data)
    except msgspec.MsgspecError:
        return None
    # The types sort their own members and bound no integer; the maps inside are checked here.
    if _again(body) != data or body.v != VERSION or not -MAX_INTEGER <= body.exponent <= MAX_INTEGER:
        return None
    if body.ts > MAX_INTEGER or body.oseq > MAX_INTEGER or not _in_order(tuple(body.c)):
        return None
    return body if all(_in_order(tuple(one)) for one in body.charges) else None


def _usual_outcome(data: bytes) -> OutcomeBody | None:
    try:
        body = _outcome(data)
    except msgspec.MsgspecError:
        return None
    if _again(body) != data or body.v != VERSION or max(body.ts, body.oseq) > MAX_INTEGER:
        return None
    bounded = -MAX_INTEGER <= body.exponent <= MAX_INTEGER and -MAX_INTEGER <= body.status <= MAX_INTEGER
    return body if bounded else None


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


def missing_of(body: Read, receipt: Receipt) -> set[str]:
    """Which commitments have no value beside them and are not said to be withheld.

    Raises `FaultError` for a value that is not the one committed to.
    """
    disclosed = receipt.disclosed
    commitments = _NO_COMMITMENTS if isinstance(body, OutcomeBody) else body.c
    withheld = () if isinstance(body, OutcomeBody) else body.withheld or ()
    if not disclosed:
        return commitments.keys() - withheld
    framed = _framed(tuple(disclosed))
    for (name, (salt, value)), (absent, present) in zip(disclosed.items(), framed, strict=True):
        try:
            made = sha256(b"afm/c1" + salt + (absent if value is None else present + value.encode())).hexdigest()
        except UnicodeEncodeError:
            made = ""
        # A salt of another length could take in part of a value, and so make another value fit.
        if made != commitments.get(name) or len(salt) != SALT_BYTES or not absent:
            told = f"the value of {shown(name)} beside it is not the one that was recorded"
            raise FaultError("disclosure.mismatch", told)
    if len(commitments) == len(disclosed):
        return set()
    return commitments.keys() - disclosed.keys() - {*withheld}


@lru_cache(maxsize=1024)
def _framed(names: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    """`chain.labels` of names, empty for one that has no form. The same few come again and again."""
    found = []
    for name in names:
        try:
            found.append(labels(name))
        except (UnicodeEncodeError, OverflowError):
            found.append((b"", b""))
    return tuple(found)


def shown(value: object) -> str:
    """A value of somebody else's making, short and without what a terminal would obey."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
