"""Rows and reservations that nobody has asked for of late, as few bytes each: a ledger in memory keeps many.

What is the same in all of them, the names of counters and their windows, is kept once, in `Names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.limits.cells import Cell, over_at
from afmiddleware.limits.rows import Hold, Line, More, Row
from afmiddleware.model.limit import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEVER: Final = b"\xff" * 8
_LATEST: Final = 2**63
_pack = msgspec.msgpack.Encoder().encode
_row = msgspec.msgpack.Decoder(tuple[int, bytes, More | None, list[list[int]]]).decode
_hold = msgspec.msgpack.Decoder(
    tuple[Hold, tuple[int, int, int], list[tuple[int, int, int, int, int, str | None]]]
).decode


class Names:
    """Names and windows by small numbers. There are as many as the policies of this process have had."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._windows: dict[Window, int] = {}
        self.names: list[str] = []
        self.windows: list[Window] = []

    def name(self, name: str) -> int:
        """The place of a name in `names`."""
        if name not in self._names:
            self._names[name] = len(self.names)
            self.names.append(name)
        return self._names[name]

    def window(self, window: Window) -> int:
        """The place of a window in `windows`."""
        if window not in self._windows:
            self._windows[window] = len(self.windows)
            self.windows.append(window)
        return self._windows[window]


def freeze_row(row: Row, names: Names) -> bytes:
    """A row as bytes, which compare as less than `stamp(now)` once it can be forgotten."""
    over = _NEVER
    if not row.oseq and row.more is None:
        over = stamp(max((over_at(cell) for cell in row.cells.values()), default=0))
    cells = [
        [names.name(name), cell.until, cell.span, cell.total, len(cell.slots), *_sparse(cell.slots)]
        for name, cell in row.cells.items()
    ]
    return over + _pack((row.oseq, row.oprev, row.more, cells))


def thaw_row(data: bytes, names: Names) -> Row:
    """A row from the bytes that `freeze_row` made."""
    oseq, oprev, more, cells = _row(memoryview(data)[8:])
    found: dict[str, Cell] = {}
    for number, until, span, total, size, *places in cells:
        slots = [0] * size
        for at in range(0, len(places), 2):
            slots[places[at]] = places[at + 1]
        found[names.names[number]] = Cell(until, span, total, slots)
    return Row(found, oseq, oprev, more)


def stamp(time: int) -> bytes:
    """A time, in microseconds since the epoch, as bytes that compare as it does."""
    return min(max(time, 0), _LATEST).to_bytes(8)


def freeze_hold(hold: Hold, names: Names) -> bytes:
    """A reservation as bytes."""
    own, begun, name = f"actor:{hold.owner}", hold.created, names.name
    lines = [
        (
            name(line.cell),
            names.window(line.window),
            line.mark - begun,
            line.amount,
            line.trips_over,
            None if line.key == own else line.key,
        )
        for line in hold.lines
    ]
    words = (name(hold.state), name(hold.currency), name(hold.capability))
    return _pack((replace(hold, lines=[], state="", currency="", capability=""), words, lines))


def thaw_hold(data: bytes, names: Names) -> Hold:
    """A reservation from the bytes that `freeze_hold` made."""
    hold, words, lines = _hold(data)
    own, begun, known = f"actor:{hold.owner}", hold.created, names.names
    hold.state, hold.currency, hold.capability = (known[number] for number in words)
    hold.lines = [
        Line(own if key is None else key, known[cell], begun + mark, amount, names.windows[window], trips_over)
        for cell, window, mark, amount, trips_over, key in lines
    ]
    return hold


def _sparse(slots: list[int]) -> Iterable[int]:
    """The places that hold something, each with what it holds."""
    return [part for place, amount in enumerate(slots) if amount for part in (place, amount)]
