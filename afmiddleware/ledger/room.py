"""How many counters there may be: nothing that counts is dropped for something new, and nobody takes another's room.

Strangers have a pool of their own. When that fills up, wider blocks of addresses stand in for single ones, down to one
for everybody. A caller that names ever new recipients is refused for itself alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.errors import LedgerFullError
from afmiddleware.limits.cells import add, roll, spend_cell
from afmiddleware.limits.rows import More, Row
from afmiddleware.limits.shared import Counted
from afmiddleware.limits.stops import CONTROL
from afmiddleware.limits.strangers import EVERYBODY
from afmiddleware.model.limit import Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from afmiddleware.ledger.books import Books
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.limit import Charge

MOST_ROWS: Final = 5_000_000
"""How many counters a ledger on disk keeps."""

MOST_STRANGERS: Final = 200_000
"""How many of them are of single addresses and blocks of these."""

NAMED: Final = 10_000
"""How many counters a caller may begin in a day by what its payloads name."""

NAMED_BY_STRANGERS: Final = 100
"""The same for one address that nobody knows."""

SPARE: Final = 64
_DAY: Final = Window("day")
_NAMED_CELL: Final = "+named"
_LEVELS: Final = (60, 80, 95)
"""Up to how many percent of their pool single addresses begin rows, then the narrower blocks, then the wider ones."""

_LONGEST: Final = 200


class Room(msgspec.Struct):
    """How many rows there are and may be, and of them those of strangers. `known` are those that were there before."""

    rows: int = 0
    strangers: int = 0
    most: int = MOST_ROWS
    known: Collection[str] = ()

    @property
    def most_strangers(self) -> int:
        """How many rows may be of strangers."""
        return min(self.most // 4, MOST_STRANGERS)


def fit(books: Books, entry: Entry) -> Entry:
    """The entry as there is room for it. Raises `LedgerFullError` where there is none; then nothing was counted."""
    room = books.room
    if not entry.quiet and not entry.named and room.rows < room.most - SPARE:
        return entry
    new = _new(books, entry)
    if not new:
        return entry
    if entry.quiet:
        entry = _folded(books, entry, new)
        new = _new(books, entry)
        most = room.most * 3 // 4
    else:
        most = room.most
    if room.rows + len(new) > most:
        msg = f"the ledger keeps {room.most} counters, and none that counts is dropped for a new one"
        raise LedgerFullError(msg, retry_after=60)
    if entry.named:
        _count_named(books, entry, new)
    room.rows += len(new)
    room.strangers += sum(is_strangers(key) for key in new)
    return entry


def count_rows(books: Books, most: int) -> None:
    """Learn how many rows there are of at most `most`, from what was loaded."""
    row = books.rows.get(CONTROL)
    made = row.more.made if row is not None and row.more is not None else (0, 0)
    books.room = Room(*made, most, frozenset(books.rows))


def tally(books: Books) -> None:
    """Note in the ledger how many rows a batch begins."""
    new = [key for key in books.changed if key not in books.room.known]
    if not new:
        return
    row = books.rows.get(CONTROL)
    more = row.more if row is not None and row.more is not None else More()
    books.rows[CONTROL] = row = row or Row({})
    strangers = sum(is_strangers(key) for key in new)
    more.made = (more.made[0] + len(new) + (CONTROL not in books.room.known), more.made[1] + strangers)
    row.more = more
    books.changed.add(CONTROL)


def fewer(control: Row, dropped: Iterable[object]) -> Row:
    """The control row after rows were dropped, whose keys are given as they are stored."""
    gone = [key.decode("utf-8", "surrogatepass") if isinstance(key, bytes) else str(key) for key in dropped]
    more = control.more or More()
    strangers = sum(is_strangers(key) for key in gone)
    more.made = (max(more.made[0] - len(gone), 0), max(more.made[1] - strangers, 0))
    control.more = more if more != More() else None
    return control


def is_strangers(key: str) -> bool:
    """Whether a row counts for an address that nobody knows. Keys too long for an index are stored as a digest."""
    if len(key) > _LONGEST or "address:" not in key:
        return False
    return key.startswith(("actor:address:", "address:")) or "?address:" in key or "=address:" in key


def _new(books: Books, entry: Entry) -> set[str]:
    charges = (*entry.spends, *entry.slots) if type(entry) is Counted else (*entry.rates, *entry.spends, *entry.slots)
    new = {charge.key for charge in charges}
    new.add(f"actor:{entry.owner}")
    rows = books.rows
    return {key for key in new if key not in rows}


def _folded(books: Books, entry: Entry, new: set[str]) -> Entry:
    """The entry in the narrowest blocks that there is room for."""
    level = _level(books.room, len(new))
    if not level:
        return entry

    def fold(charges: tuple[Charge, ...]) -> tuple[Charge, ...]:
        kept: dict[tuple[str, str], Charge] = {}
        for charge in charges:
            one = charge
            if one.key in new and one.wider:
                one = replace(one, key=one.wider[level - 1], wider=())
            elif one.key in new and one.limit.wide:
                # What stands in for the address is counted here already, under a narrower cap.
                continue
            kept.setdefault((one.limit.cell, one.key), one)
        return tuple(kept.values())

    if type(entry) is Counted:
        return replace(entry, spends=fold(entry.spends), slots=fold(entry.slots))
    return replace(entry, rates=fold(entry.rates), spends=fold(entry.spends), slots=fold(entry.slots))


def _level(room: Room, more: int) -> int:
    """How wide the blocks are that `more` rows of strangers may be of, 0 for single addresses."""
    percent = (room.strangers + more) * 100 // max(room.most_strangers, 1)
    return next((place for place, full in enumerate(_LEVELS) if percent <= full), len(_LEVELS))


def _count_named(books: Books, entry: Entry, new: Collection[str]) -> None:
    """Count the rows that an entry begins by what its payload names. Raises `LedgerFullError` beyond the quota."""
    charges = (*entry.rates, *entry.spends, *entry.slots)
    made = {charge.key for charge in charges if charge.limit.named}.intersection(new)
    if entry.quiet:
        # An address is what a stranger is known by: that row is its own.
        made = {key for key in made if not is_strangers(key)}
    if not made:
        return
    own = f"actor:{entry.actor or entry.owner}"
    key = own if own in books.rows or not entry.quiet or not _level(books.room, 1) else f"actor:{EVERYBODY}"
    row = books.rows.setdefault(key, Row({}))
    cell = row.cells.get(_NAMED_CELL)
    if cell is None:
        cell = row.cells[_NAMED_CELL] = spend_cell(_DAY, books.now)
    roll(cell, books.now, _DAY)
    most = NAMED_BY_STRANGERS if entry.quiet else NAMED
    if cell.total + len(made) > most:
        msg = f"this caller has named {most} new recipients, categories or networks today, the most there are"
        raise LedgerFullError(msg, retry_after=3600)
    add(cell, len(made))
    books.changed.add(key)
