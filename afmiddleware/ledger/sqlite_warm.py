"""What a writer knows of its own file without reading it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_KEPT: Final = 4096
"""How many rows of a table are kept."""
_SELECTED: Final = 500


class Warm:
    """The rows that a connection has read or written, in their stored bytes, while nobody else writes the file.

    SQLite tells that by `PRAGMA data_version`, which is asked inside the transaction. What is kept is what is stored: a
    transaction that failed, or that wrote past this, makes it forget everything. `end` is the head of the log.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = self._begun = -1
        self.end: tuple[Any, ...] | None = None
        self.counters: dict[str, bytes | None] = {}
        self.holds: dict[str, bytes | None] = {}

    def begin(self) -> None:
        """Inside a transaction, before anything is asked: forget what another connection may have changed."""
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or max(len(self.counters), len(self.holds)) > _KEPT:
            self.end, self.counters, self.holds = None, {}, {}
        self._version, self._begun = -1, version

    def keep(self) -> None:
        """After the commit: what was noted since `begin` is what is stored. Without it all is forgotten."""
        self._version = self._begun

    def forget(self) -> None:
        """Know nothing."""
        self._version = -1

    def read(self, kept: dict[str, bytes | None], query: str, keys: Iterable[str]) -> list[tuple[str, bytes]]:
        """The rows of `keys` in a table, of which only those that are not `kept` are looked up."""
        wanted = list(keys)
        unknown = [key for key in wanted if key not in kept]
        if unknown:
            kept.update(dict.fromkeys(unknown))
            kept.update(select(self._connection, query, unknown))
        return [(key, data) for key in wanted if (data := kept[key]) is not None]


def select(connection: sqlite3.Connection, query: str, values: Iterable[str]) -> list[tuple[str, bytes]]:
    """The rows whose key is among `values`, in portions that every SQLite accepts as parameters."""
    wanted = list(values)
    found: list[tuple[str, bytes]] = []
    for start in range(0, len(wanted), _SELECTED):
        portion = wanted[start : start + _SELECTED]
        found += connection.execute(f"{query} ({','.join('?' * len(portion))})", portion)
    return found
