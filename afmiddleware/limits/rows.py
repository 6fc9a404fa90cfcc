"""One row holds all counters of one key and the head of its owner's receipts; this is its packed form."""

from __future__ import annotations

import msgspec

from afmiddleware.limits.cells import Cell, expired
from afmiddleware.model.limit import Window


class Row(msgspec.Struct, array_like=True):
    """The state of one key. `oseq` and `oprev` are the owner's receipt head: 0 and empty before the first."""

    cells: dict[str, Cell]
    oseq: int = 0
    oprev: bytes = b""


class Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a reservation has counted in one counter: enough to give it back, or to book more.

    `window` is the one the counter is moved by when more is booked.
    """

    key: str
    cell: str
    mark: int
    amount: int
    window: Window


class Hold(msgspec.Struct, array_like=True):
    """A reservation: all that is needed to end it.

    `state` is `held`, `capture`, `release` or `unknown`; `leaf` is its intent's leaf hash, empty when nothing could be
    recorded. `currency` is empty where no money was asked for.
    """

    owner: str
    state: str
    amount: int
    currency: str
    exponent: int
    leaf: bytes
    created: int
    lines: list[Line]
    capability: str = ""


_pack = msgspec.msgpack.Encoder().encode
_row = msgspec.msgpack.Decoder(Row).decode
_hold = msgspec.msgpack.Decoder(Hold).decode


def pack(value: Row | Hold) -> bytes:
    """A row or a reservation as bytes (MessagePack)."""
    return _pack(value)


def unpack_row(data: bytes) -> Row:
    """A row from its bytes. Raises `msgspec.MsgspecError` when they are none."""
    return _row(data)


def unpack_hold(data: bytes) -> Hold:
    """A reservation from its bytes. Raises `msgspec.MsgspecError` when they are none."""
    return _hold(data)


def forgettable(row: Row, now: int) -> bool:
    """Whether dropping the row loses nothing: every window is over and it owns no receipts."""
    return not row.oseq and all(expired(cell, now) for cell in row.cells.values())
