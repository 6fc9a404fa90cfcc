"""Putting a receipt into the log.

A leaf is SHA-256(0x00 || body), as in RFC 6962. Every body names the leaf before it in the log and the leaf before it
of the same owner, so an owner can tell from its own receipts alone that one of them is missing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from struct import unpack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Body, Receipt
from afmiddleware.receipts.canonical import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.model.receipt import Draft, Value
    from afmiddleware.receipts.keys import ReceiptKeys

VERSION: Final = 1
SALT_BYTES: Final = 16
NO_LEAF: Final = bytes(32)
_NO_TEXT: Final = "a private value is not text that has a UTF-8 form, or its name is too long"
_CHAIN_MEMBERS: Final = frozenset(
    {"v", "log", "seq", "ts", "clock_back", "kind", "prev", "owner", "oseq", "oprev", "kid", "c"},
)


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a log: its id, how many receipts it has, the last leaf and the last time (microseconds)."""

    log: str
    size: int
    leaf: bytes
    ts: int


class OwnerHead(msgspec.Struct, frozen=True, gc=False):
    """The end of one owner's receipts: how many there are, and the last leaf (empty before the first)."""

    seq: int
    leaf: bytes


def append(  # noqa: PLR0913 (what a receipt is made of)
    draft: Draft,
    head: Head,
    owner: OwnerHead,
    keys: ReceiptKeys,
    now: int,
    draw: Callable[[int], bytes],
) -> tuple[Receipt, Head, OwnerHead]:
    """Make the next receipt of a log. `now` is in microseconds; `draw` gives random bytes for the salts.

    Time never runs backwards in a log: a clock that did is recorded as `clock_back`, with the last time kept. Raises
    `ReceiptError` when the draft has no canonical form, or a member that only the chain may write.
    """
    seq, oseq, last = head.size + 1, owner.seq + 1, head.ts
    ts = max(now, last)
    told: Any = draft.body
    typed = isinstance(told, Body)
    body: Any = told if typed else _members(told)
    body.v = VERSION
    body.log = head.log
    body.seq = seq
    body.ts = ts
    body.kind = draft.kind
    body.prev = head.leaf.hex()
    body.owner = keys.pseudonym(draft.owner)
    body.oseq = oseq
    body.oprev = (owner.leaf or NO_LEAF).hex()
    body.kid = keys.kid
    if now < last:
        body.clock_back = True
    disclosed: dict[str, tuple[bytes, str | None]] = {}
    private = draft.private
    if private:
        drawn = draw(SALT_BYTES * len(private))
        if len(drawn) != SALT_BYTES * len(private):
            msg = f"{SALT_BYTES * len(private)} random bytes were asked for, {len(drawn)} came"
            raise ReceiptError(msg)
        salts = unpack(f"{SALT_BYTES}s" * len(private), drawn)
        body.c = _commit(private, salts)
        disclosed = dict(zip(private, zip(salts, private.values(), strict=True), strict=True))
    data = encode(body if typed else vars(body))
    leaf = sha256(b"\0" + data).digest()
    receipt = Receipt(seq=seq, body=data, leaf=leaf, mac=keys.mac(leaf), disclosed=disclosed)
    return receipt, Head(head.log, seq, leaf, ts), OwnerHead(oseq, leaf)


def leaf_hash(body: bytes) -> bytes:
    """The hash that stands for a receipt: SHA-256(0x00 || body)."""
    return sha256(b"\0" + body).digest()


def commitment(name: str, salt: bytes, value: str | None) -> str:
    """What a body holds in place of a private member, as hexadecimal digits.

    SHA-256("afm/c1" || salt || u16 length of name || name || 0x01 || value), or with 0x00 and no value for an absent
    one. With the salt it can be checked, without it not even guessed. Raises `ReceiptError` for a lone surrogate.
    """
    try:
        absent, present = labels(name)
        said = absent if value is None else present + value.encode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise ReceiptError(_NO_TEXT) from error
    return sha256(b"afm/c1" + salt + said).hexdigest()


def _commit(private: Mapping[str, str | None], salts: Sequence[bytes]) -> dict[str, str]:
    made = {}
    try:
        for (name, value), salt in zip(private.items(), salts, strict=True):
            absent, present = labels(name)
            said = absent if value is None else present + value.encode()
            made[name] = sha256(b"afm/c1" + salt + said).hexdigest()
    except (UnicodeEncodeError, OverflowError) as error:
        raise ReceiptError(_NO_TEXT) from error
    return made


def _members(body: Mapping[str, Value]) -> SimpleNamespace:
    if not _CHAIN_MEMBERS.isdisjoint(body):
        msg = f"a draft may not set {', '.join(sorted(_CHAIN_MEMBERS & body.keys()))}: the chain does"
        raise ReceiptError(msg)
    return SimpleNamespace(**body)


@lru_cache(maxsize=256)
def labels(name: str) -> tuple[bytes, bytes]:
    """What stands between salt and value, for an absent value and for a present one."""
    label = name.encode()
    framed = len(label).to_bytes(2, "big") + label
    return framed + b"\0", framed + b"\1"
