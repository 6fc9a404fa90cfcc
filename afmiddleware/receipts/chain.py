"""Putting a receipt into the log.

A leaf is SHA-256(0x00 || body), as in RFC 6962. Every body names the leaf before it in the log and the leaf before it
of the same owner, so an owner can tell from its own receipts alone that one of them is missing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Receipt
from afmiddleware.receipts.canonical import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.model.receipt import Draft, Value
    from afmiddleware.receipts.keys import ReceiptKeys

VERSION: Final = 1
SALT_BYTES: Final = 16
NO_LEAF: Final = bytes(32)
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
    if not _CHAIN_MEMBERS.isdisjoint(draft.body):
        msg = f"a draft may not set {', '.join(sorted(_CHAIN_MEMBERS & draft.body.keys()))}: the chain does"
        raise ReceiptError(msg)
    seq, oseq = head.size + 1, owner.seq + 1
    body: dict[str, Value] = {
        **draft.body,
        "v": VERSION,
        "log": head.log,
        "seq": seq,
        "ts": max(now, head.ts),
        "kind": draft.kind,
        "prev": head.leaf.hex(),
        "owner": keys.pseudonym(draft.owner),
        "oseq": oseq,
        "oprev": (owner.leaf or NO_LEAF).hex(),
        "kid": keys.kid,
    }
    if now < head.ts:
        body["clock_back"] = True
    disclosed: dict[str, tuple[bytes, str | None]] = {}
    if draft.private:
        salts = draw(SALT_BYTES * len(draft.private))
        if len(salts) != SALT_BYTES * len(draft.private):
            msg = f"{SALT_BYTES * len(draft.private)} random bytes were asked for, {len(salts)} came"
            raise ReceiptError(msg)
        commitments: dict[str, Value] = {}
        at = 0
        for name, value in draft.private.items():
            salt = salts[at : at + SALT_BYTES]
            at += SALT_BYTES
            disclosed[name] = (salt, value)
            commitments[name] = commitment(name, salt, value)
        body["c"] = commitments
    data = encode(body)
    leaf = leaf_hash(data)
    receipt = Receipt(seq=seq, body=data, leaf=leaf, mac=keys.mac(leaf), disclosed=disclosed)
    return receipt, Head(head.log, seq, leaf, max(now, head.ts)), OwnerHead(oseq, leaf)


def leaf_hash(body: bytes) -> bytes:
    """The hash that stands for a receipt: SHA-256(0x00 || body)."""
    return sha256(b"\0" + body).digest()


def commitment(name: str, salt: bytes, value: str | None) -> str:
    """What a body holds in place of a private member, as hexadecimal digits.

    SHA-256("afm/c1" || salt || u16 length of name || name || 0x01 || value), or with 0x00 and no value for an absent
    one. With the salt it can be checked, without it not even guessed. Raises `ReceiptError` for a lone surrogate.
    """
    try:
        absent, present = _labels(name)
        if value is None:
            return sha256(b"afm/c1" + salt + absent).hexdigest()
        return sha256(b"afm/c1" + salt + present + value.encode()).hexdigest()
    except (UnicodeEncodeError, OverflowError) as error:
        msg = f"the value of {name[:40]!a} is not text that has a UTF-8 form, or its name is too long"
        raise ReceiptError(msg) from error


@lru_cache(maxsize=256)
def _labels(name: str) -> tuple[bytes, bytes]:
    """What stands between salt and value, for an absent value and for a present one."""
    label = name.encode()
    framed = len(label).to_bytes(2, "big") + label
    return framed + b"\0", framed + b"\1"
