"""The part of a ledger in memory that nobody has asked for of late. What is used is as it was; the rest is packed."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from afmiddleware.limits.cold import Names, freeze_hold, freeze_row, stamp, thaw_hold, thaw_row
from afmiddleware.limits.rows import forgettable

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.rows import Row

WARM: Final = 1_024
"""How many rows, and how many reservations, are kept as they are."""

_AT_ONCE: Final = 4
# Called by name: `super()` looks them up in every call, and these are called in every commit.
_len, _has, _get, _iter = dict.__len__, dict.__contains__, dict.get, dict.__iter__
V = TypeVar("V")


class Packing(dict[str, V], Generic[V]):
    """A dict most of whose values are bytes: what is looked at is unpacked and stays so until `cool` has had its turn.

    What `values` and `items` give of the packed are copies. It is used under a lock.
    """

    def __init__(self, warm: dict[str, V], pack: Callable[[V], bytes], unpack: Callable[[bytes], V]) -> None:
        super().__init__(warm)
        self.cold: dict[str, bytes] = {}
        self._pack, self._unpack = pack, unpack

    def cool(self) -> None:
        """Pack a few of those that were unpacked, or added, first."""
        surplus = _len(self) - WARM
        if surplus > 0:
            for key in list(islice(_iter(self), min(surplus, _AT_ONCE))):
                self.cold[key] = self._pack(super().pop(key))

    def __missing__(self, key: str) -> V:
        value = self[key] = self._unpack(self.cold.pop(key))
        return value

    def __contains__(self, key: object) -> bool:
        return _has(self, key) or key in self.cold

    def __delitem__(self, key: str) -> None:
        if self.cold.pop(key, None) is None:
            super().__delitem__(key)

    def __iter__(self) -> Iterator[str]:
        return chain(_iter(self), self.cold)

    def __len__(self) -> int:
        return _len(self) + len(self.cold)

    def get(self, key: str, default: Any = None) -> Any:
        found = _get(self, key)
        if found is None:
            return self[key] if key in self.cold else default
        return found

    def setdefault(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.cold else super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        packed = self.cold.pop(key, None)
        return super().pop(key, *default) if packed is None else self._unpack(packed)

    def keys(self) -> Any:
        return KeysView(self)

    def values(self) -> Any:
        return ValuesView(_Whole(self))

    def items(self) -> Any:
        return ItemsView(_Whole(self))

    def look(self, key: str) -> V:
        """A value, a copy where it is packed."""
        packed = self.cold.get(key)
        return self[key] if packed is None else self._unpack(packed)


class _Whole(dict[str, V], Generic[V]):
    """What views of a `Packing` look into, so that looking unpacks nothing for good."""

    def __init__(self, packing: Packing[V]) -> None:
        super().__init__()
        self._packing = packing

    def __iter__(self) -> Iterator[str]:
        return iter(self._packing)

    def __len__(self) -> int:
        return len(self._packing)

    def __getitem__(self, key: str) -> V:
        return self._packing.look(key)


def cool(books: Books) -> None:
    """Pack what is not used, of books that hold much. Called between items, when nobody holds on to a row."""
    rows, holds = books.rows, books.holds
    # What began changes nothing of what is kept; only an end does.
    books.changed_holds.clear()
    if type(rows) is not Packing:
        names = Names()
        books.rows = rows = Packing(rows, lambda row: freeze_row(row, names), lambda data: thaw_row(data, names))
        books.holds = holds = Packing(holds, lambda hold: freeze_hold(hold, names), lambda data: thaw_hold(data, names))
    rows.cool()
    if type(holds) is Packing:
        holds.cool()


def forgettable_keys(rows: dict[str, Row], now: int) -> list[str]:
    """The keys of the rows that say nothing any more."""
    if type(rows) is not Packing:
        return [key for key, row in rows.items() if forgettable(row, now)]
    over = stamp(now)
    warm = [key for key in _iter(rows) if forgettable(rows[key], now)]
    return warm + [key for key, packed in rows.cold.items() if packed[:8] <= over]
