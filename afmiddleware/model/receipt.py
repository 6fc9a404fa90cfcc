"""Receipts: what is asked to be recorded, and what was recorded."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

ANONYMOUS = "anonymous"
"""The owner of receipts that nobody has proven to be theirs."""

Value = str | int | bool | list["Value"] | dict[str, "Value"]
"""What a receipt body may hold: no floats, no nulls; integers within +-(2^53 - 1)."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt before it has a place in the log.

    `owner` is the actor it belongs to. `body` holds the plain members (those that are never redacted); `private` the
    members stored only as salted commitments, `None` for an absent one: all members of a kind are always listed, so
    that presence does not leak.
    """

    kind: str
    owner: str
    body: Mapping[str, Value]
    private: Mapping[str, str | None] = MappingProxyType({})


class ReceiptRef(msgspec.Struct, frozen=True, gc=False):
    """Where a receipt stands: the log's id, its sequence number (from 1) and its leaf hash (32 bytes)."""

    log: str
    seq: int
    leaf: bytes


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored receipt: the exact bytes that were hashed, the leaf, the HMAC over the leaf, and the disclosures.

    `disclosed` maps a private member to its salt (16 bytes) and value; a redacted one is missing.
    """

    seq: int
    body: bytes
    leaf: bytes
    mac: bytes
    disclosed: Mapping[str, tuple[bytes, str | None]] = MappingProxyType({})
