"""Dropping what a PostgreSQL ledger need not keep, a page at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from afmiddleware.ledger.postgres_server import row_key
from afmiddleware.ledger.room import fewer
from afmiddleware.ledger.sweep import PAGE, Swept, overdue
from afmiddleware.limits.rows import pack, unpack_row
from afmiddleware.limits.stops import CONTROL

if TYPE_CHECKING:
    from afmiddleware.ledger.postgres_statements import Statements


def sweep(connection: psycopg.Connection, statements: Statements, after: bytes, now: int, settings: list[str]) -> bytes:
    """Look at the counters after the key `after`, and drop what is of no use. Returns where to go on.

    Raises `psycopg.Error`; then nothing is dropped.
    """
    page = connection.execute(statements.page, (after, PAGE), binary=True).fetchall()
    over = overdue(now)
    for table, drop in statements.drop_stale.items():
        connection.execute(drop, (over[table], PAGE))
    if not Swept(page, now).idle:
        _write(connection, statements, [key for key, _ in page], now, settings)
    return bytes(page[-1][0]) if len(page) == PAGE else b""


def _write(
    connection: psycopg.Connection, statements: Statements, keys: list[bytes], now: int, settings: list[str]
) -> None:
    connection.execute(statements.begin)
    try:
        connection.execute(statements.settings, settings)
        # Every commit holds the end of the log, so nothing is used between this look and the end.
        connection.execute(statements.head)
        found = Swept(connection.execute(statements.some_rows, (keys,), binary=True).fetchall(), now)
        if found.kept:
            connection.execute(statements.put_rows, [list(column) for column in zip(*found.kept, strict=True)])
        if found.dropped:
            connection.execute(statements.drop_rows, (found.dropped,))
            key = row_key(CONTROL)
            for _, data in connection.execute(statements.some_rows, ([key],), binary=True).fetchall():
                row = fewer(unpack_row(data), found.dropped)
                connection.execute(statements.put_rows, ([key], [pack(row)]))
        connection.execute("COMMIT")
    except BaseException:
        with suppress(psycopg.Error):
            if not connection.closed:
                connection.execute("ROLLBACK")
        raise
