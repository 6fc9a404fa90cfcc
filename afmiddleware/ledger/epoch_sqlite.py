"""Making way for a new log in an SQLite ledger: the old one is copied beside the file, whole, and taken out of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.receipt_key import new_log
from afmiddleware.ledger.sqlite_file import Queue, connect, transaction
from afmiddleware.limits.rows import pack, unpack_row
from afmiddleware.receipts.chain import NO_LEAF, Head

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.sqlite_file import Location


def make_way(location: Location) -> tuple[Head, tuple[str, ...], str]:
    """Put an empty log in the place of the one that is there. What counts, API keys and reservations stay.

    Answers the end of the old log, the reservations that are open, and where the copy is, empty when the log was.
    Raises `LedgerUnavailableError`; nothing is changed then but that there may be a copy.
    """
    database = location.database
    try:
        with closing(Queue(database)) as queue, queue.turn(), closing(connect(database)) as connection:
            head = Head(*connection.execute("SELECT log, size, leaf, ts FROM head WHERE id = 1").fetchone())
            copy = _free(database.with_name(f"{database.name}.{head.log}"))
            if head.size:
                _copy(connection, copy)
            with transaction(connection):
                _empty(connection)
            found = connection.execute("SELECT id FROM hold WHERE state = 'held' ORDER BY created, id").fetchall()
            return head, tuple(name for (name,) in found), str(copy) if head.size else ""
    except (sqlite3.Error, OSError) as error:
        msg = f"no way could be made for a new log in {database}: {error}"
        raise LedgerUnavailableError(msg) from error


def _free(copy: Path) -> Path:
    """A name that nothing has: what was copied before of the log stays as it is."""
    names = (copy if number == 1 else copy.with_name(f"{copy.name}.{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _copy(connection: sqlite3.Connection, copy: Path) -> None:
    """Copy a ledger whole: one that was broken off has not the name of a copy."""
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        part.rename(copy)
    except (sqlite3.Error, OSError):
        part.unlink(missing_ok=True)
        raise


def _empty(connection: sqlite3.Connection) -> None:
    rows = [(key, unpack_row(data)) for key, data in connection.execute("SELECT key, data FROM counter")]
    for key, row in rows:
        if row.oseq:
            row.oseq, row.oprev = 0, b""
            connection.execute("UPDATE counter SET data = ? WHERE key = ?", (pack(row), key))
    for table in ("receipt", "node", "checkpoint", "signing_key"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 (names from here)
    # The time stays, for it never runs backwards, and so does the key.
    connection.execute("UPDATE head SET log = ?, size = 0, leaf = ?, frontier = x''", (new_log(), NO_LEAF))
    connection.execute("INSERT INTO signing_key SELECT signer, 0, x'' FROM head WHERE signer != x''")
