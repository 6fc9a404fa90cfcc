"""An archive in an SQLite file, made beside its place under another name until it is whole."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlite_utils import Database

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.receipt_key import ARCHIVE
from afmiddleware.ledger.schema import migrate
from afmiddleware.ledger.sqlite_file import connect, transaction

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.archive import End, ReceiptRow
    from afmiddleware.receipts.merkle import Node


class SqliteShelf:
    """A new file. Raises `ReceiptError` when there is one, for a log is never mixed into another."""

    def __init__(self, place: Path) -> None:
        if place.exists():
            msg = f"there is a ledger at {place} already: import into a new one, --into sqlite:///another.db"
            raise ReceiptError(msg)
        self._place = place
        self._made = place.with_name(f"{place.name}.import")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            # Also a lock: two imports to one place do not meet.
            self._made.touch(0o600, exist_ok=False)
        except OSError as error:
            msg = f"{self._made} cannot be made: {error.strerror}; remove what an import that was broken off has left"
            raise ReceiptError(msg) from error
        self._connection = connect(self._made)
        with transaction(self._connection):
            migrate(Database(self._connection))

    def put(self, receipts: list[ReceiptRow], nodes: list[Node], notes: list[tuple[int, str]]) -> None:
        """Store a batch."""
        rows = [(node.level, node.index, node.hash) for node in nodes]
        try:
            with transaction(self._connection):
                marks = ", ".join("?" * 11)
                self._connection.executemany(f"INSERT INTO receipt VALUES ({marks})", receipts)  # noqa: S608 (marks)
                self._connection.executemany("INSERT INTO node VALUES (?, ?, ?)", rows)
                self._connection.executemany("INSERT INTO checkpoint VALUES (?, ?)", notes)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            msg = f"{self._made} cannot be written: {error}"
            raise LedgerUnavailableError(msg) from error

    def finish(self, end: End) -> None:
        """Store the end of the log, and give the file its name."""
        signer = end.keys[-1].public if end.keys else b""
        head = (end.log, end.size, end.leaf, end.ts, ARCHIVE, end.frontier, signer)
        keys = [(one.public, one.after, one.proof) for one in end.keys]
        try:
            with transaction(self._connection):
                names = "id, log, size, leaf, ts, kid, frontier, signer"
                self._connection.execute(f"INSERT INTO head ({names}) VALUES (1, ?, ?, ?, ?, ?, ?, ?)", head)  # noqa: S608
                self._connection.executemany("INSERT INTO signing_key VALUES (?, ?, ?)", keys)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            # A link does not replace what has come to be there in the meantime.
            self._place.hardlink_to(self._made)
        except (sqlite3.Error, OSError) as error:
            msg = f"{self._place} cannot be made: {error}"
            raise LedgerUnavailableError(msg) from error
        self.drop()

    def drop(self) -> None:
        """Remove what was made under the other name."""
        with suppress(sqlite3.Error):
            self._connection.close()
        for more in ("", "-wal", "-shm"):
            self._made.with_name(self._made.name + more).unlink(missing_ok=True)
