"""Putting a receipt into the log.

A leaf is SHA-256(0x00 || body), as in RFC 6962. Every body names the leaf before it in the log and the leaf before it
of the same owner, so an owner can tell from its own receipts alone that one of them is missing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from struct import unpack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Body, Draft, Filled, Receipt
from afmiddleware.receipts.canonical import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from afmiddleware.model.receipt import Value
    from afmiddleware.receipts.keys import ReceiptKeys

VERSION: Final = 1
SALT_BYTES: Final = 16
NO_LEAF: Final = bytes(32)
_NO_TEXT: Final = "a private value is not text that has a UTF-8 form, or its name is too long"
_CHAIN_MEMBERS: Final = frozenset(
    {"v", "log", "seq", "ts", "clock_back", "kind", "prev", "owner", "oseq", "oprev", "kid", "c", "withheld"},
)


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a log: its id, how many receipts it has, the last leaf and the last time (microseconds)."""

    log: str
    size: int
    leaf: bytes
    ts: int


class OwnerHead(msgspec.Struct, frozen=True, gc=False):
    """The end of one owner's receipts: how many there are, and the last leaf (empty before the first)."""

    oseq: int = 0
    oprev: bytes = b""


class OwnerEnd(Protocol):
    """Whatever knows the end of an owner's receipts, as an `OwnerHead` does."""

    @property
    def oseq(self) -> int: ...
    @property
    def oprev(self) -> bytes: ...


class Written(msgspec.Struct, frozen=True, gc=False):
    """A receipt at its place in the log. `ts` is its time there, `salts` are those of its private members.

    The values of the members `gone` were deleted.
    """

    draft: Draft
    seq: int
    oseq: int
    ts: int
    body: bytes
    leaf: bytes
    salts: bytes = b""
    gone: frozenset[str] = frozenset()

    def without(self, names: Collection[str]) -> Written:
        """The same without the values and salts of some private members."""
        private = {name: None if name in names else value for name, value in self._private().items()}
        kept = [
            bytes(SALT_BYTES) if name in names else salt for name, salt in zip(private, _salts(self.salts), strict=True)
        ]
        told = self.draft.body
        if type(told) is Filled:
            draft = replace(self.draft, body=replace(told, values=tuple(private.values())))
        else:
            draft = replace(self.draft, private=private)
        return replace(self, draft=draft, salts=b"".join(kept), gone=self.gone.union(names))

    def receipt(self, keys: ReceiptKeys) -> Receipt:
        """The receipt as it is stored, authenticated."""
        disclosed = {
            name: (salt, value)
            for salt, (name, value) in zip(_salts(self.salts), self._private().items(), strict=True)
            if name not in self.gone
        }
        return Receipt(seq=self.seq, body=self.body, leaf=self.leaf, mac=keys.mac(self.leaf), disclosed=disclosed)

    def _private(self) -> Mapping[str, str | None]:
        told = self.draft.body
        if type(told) is Filled:
            return dict(zip(told.form.private, told.values, strict=True))
        return self.draft.private


def append(  # noqa: PLR0913 (what a receipt is made of)
    draft: Draft,
    head: Head,
    owner: OwnerEnd,
    keys: ReceiptKeys,
    now: int,
    draw: Callable[[int], bytes],
) -> Written:
    """Make the next receipt of a log. `now` is in microseconds; `draw` gives random bytes for the salts.

    Time never runs backwards in a log: a clock that did is recorded as `clock_back`, with the last time kept. Raises
    `ReceiptError` when the draft has no canonical form, or a member that only the chain may write.
    """
    told: Any = draft.body
    seq, oseq, last = head.size + 1, owner.oseq + 1, head.ts
    ts = max(now, last)
    if type(told) is Filled:
        # Its text is there but for the blanks.
        form, salts = told.form, b""
        text = [*(form.text if now >= last else form.back)]
        commitments: Sequence[str] = ()
        if form.private:
            salts = _drawn(draw, len(form.private))
            commitments = _commitments(form.private, salts, told.values)
        text[1::2] = (
            *told.first,
            *commitments,
            *told.then,
            keys.kid,
            head.log,
            (owner.oprev or NO_LEAF).hex(),
            str(oseq),
            keys.pseudonym(draft.owner),
            head.leaf.hex(),
            *told.last,
            str(seq),
            str(ts),
        )
        data = "".join(text).encode()
        return Written(draft, seq, oseq, ts, data, sha256(b"\0" + data).digest(), salts)
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
    body.oprev = (owner.oprev or NO_LEAF).hex()
    body.kid = keys.kid
    if now < last:
        body.clock_back = True
    private, salts = draft.private, b""
    if private:
        salts = _drawn(draw, len(private))
        if draft.withheld:
            body.withheld = tuple(sorted(draft.withheld & private.keys()))
            own = (keys.salt(head.log, seq, name) if name in body.withheld else b"" for name in private)
            salts = b"".join(mine or drawn for mine, drawn in zip(own, _salts(salts), strict=True))
        made = dict(zip(private, _commitments(tuple(private), salts, tuple(private.values())), strict=True))
        body.c = msgspec.Raw(encode(made)) if typed else made
    data = encode(body if typed else vars(body))
    written = Written(draft, seq, oseq, ts, data, sha256(b"\0" + data).digest(), salts)
    return written.without(draft.withheld) if draft.withheld else written


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


def _drawn(draw: Callable[[int], bytes], count: int) -> bytes:
    drawn = draw(SALT_BYTES * count)
    if len(drawn) != SALT_BYTES * count:
        msg = f"{SALT_BYTES * count} random bytes were asked for, {len(drawn)} came"
        raise ReceiptError(msg)
    return drawn


def _salts(drawn: bytes) -> tuple[bytes, ...]:
    return unpack(f"{SALT_BYTES}s" * (len(drawn) // SALT_BYTES), drawn)


def _commitments(names: tuple[str, ...], drawn: bytes, values: Sequence[str | None]) -> list[str]:
    """`commitment` of each, with its part of the salts that were drawn."""
    try:
        return [
            sha256(b"afm/c1" + salt + (absent if value is None else present + value.encode())).hexdigest()
            for (absent, present), salt, value in zip(_all_labels(names), _salts(drawn), values, strict=True)
        ]
    except (UnicodeEncodeError, OverflowError) as error:
        raise ReceiptError(_NO_TEXT) from error


@lru_cache(maxsize=256)
def _all_labels(names: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(labels(name) for name in names)


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
