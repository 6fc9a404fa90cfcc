"""A database whose files are taken away, cut or replaced while it is open.

SQLite goes on in files that nobody else sees, and whoever opens the database next begins others: two logs, of which the
last to close its own buries the other. So a writer looks before every transaction, in its turn.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

_LOCKED: Final = (0x40000002, 510)
"""The bytes of a database by which SQLite tells whether somebody else has it open: where they begin, and how many."""

_Mark = tuple[int, int, int]


class TakenError(LedgerUnavailableError):
    """The files in their place are not those that are open. All is to be closed within `closing`, and opened anew.

    With `again` what was to be written may be tried once more then: the database itself is the same.
    """

    def __init__(self, message: str, closing: AbstractContextManager[None], *, again: bool) -> None:
        self.closing = closing
        self.again = again
        super().__init__(message)


class Files:
    """A database and the files beside it, as they were when a process opened them; `count` tells when that was.

    `cut` says that the database has become shorter, which tells nothing of what is left of it. Raises `OSError` while
    there is no database.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._paths = tuple(f"{database}{end}" for end in ("", "-wal", "-shm"))
        self._count = -1
        self._known: list[_Mark | None] = []
        self.cut = False

    def opened(self, count: int) -> None:
        """Note the files that a connection has opened, the first of the process since all were closed."""
        if self._count != count:
            self._count, self._known = count, self._marks()

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `TakenError` unless they are in their place, no shorter than they were.

        Where they are only gone, all that is in them is brought into the database first: it is in no other place.
        """
        found, known = self._marks(), self._known
        if all(is_ == was and is_ is not None for is_, was in zip(found, known, strict=True)):
            return
        other = _is_other(found[:1], known)
        self.cut = self.cut or other
        if not _is_other(found, known):
            if None not in found:
                self._known = found
                return
            if any(self._fold(connection)):
                msg = f"a file beside the ledger {self._database} was taken away while it is read"
                raise LedgerUnavailableError(msg)
        msg = f"the ledger {self._database}, or a file beside it, was replaced, cut or taken away while it was in use"
        raise TakenError(msg, self.closing(), again=not other)

    @contextmanager
    def closing(self) -> Generator[None]:
        """What is closed in here leaves the files alone that have come into the place of those that were open.

        The last to close a database brings its log into it and removes that; with this, SQLite sees somebody else.
        """
        fd = -1
        with suppress(OSError):
            if sys.platform == "linux" and _is_other(self._marks(), self._known):
                fd = os.open(self._database, os.O_RDONLY | os.O_CLOEXEC)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, *_LOCKED, 0))
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def _fold(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Bring the write-ahead log into the database; whether somebody is in the way, and how much is left."""
        busy, there, done = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        return busy, there - done

    def _marks(self) -> list[_Mark | None]:
        database, *beside = self._paths
        found = os.stat(database)  # noqa: PTH116 (three of them before every commit)
        marks: list[_Mark | None] = [(found.st_dev, found.st_ino, found.st_size)]
        for path in beside:
            try:
                found = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                marks.append(None)
            else:
                marks.append((found.st_dev, found.st_ino, found.st_size))
        return marks


def check_pages(connection: sqlite3.Connection) -> None:
    """Raise `LedgerUnavailableError` unless every page of a database that was cut is there; it reads all of them."""
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise LedgerUnavailableError("it was cut, and a part is missing; restore its newest copy")


def _is_other(found: list[_Mark | None], known: list[_Mark | None]) -> bool:
    """Whether one is another file, or shorter than it was."""
    return any(
        is_ is not None and was is not None and (is_[:2] != was[:2] or is_[2] < was[2])
        for is_, was in zip(found, known, strict=False)
    )
