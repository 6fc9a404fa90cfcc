"""Making way for a new log in a PostgreSQL ledger: the old one is copied to a schema of its own, and taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg import sql

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.postgres_server import connect, said
from afmiddleware.ledger.receipt_key import new_log
from afmiddleware.limits.rows import pack, unpack_row
from afmiddleware.receipts.chain import NO_LEAF, Head

if TYPE_CHECKING:
    from afmiddleware.config.ledger_url import PostgresUrl

_LOG: Final = ("receipt", "node", "checkpoint", "signing_key")
_COPIED: Final = ("meta", "head", "counter", "hold", "policy", *_LOG)
_LONGEST: Final = 63


def make_way(url: PostgresUrl) -> tuple[Head, tuple[str, ...], str]:
    """Put an empty log in the place of the one that is there. What counts, API keys and reservations stay.

    Answers the end of the old log, the reservations that are open, and the schema of the copy, empty when the log was.
    Raises `LedgerUnavailableError`; nothing is changed then.
    """
    try:
        with connect(url) as connection, connection.transaction(), connection.cursor(binary=True) as cursor:
            found = cursor.execute(_of(url, "SELECT log, size, leaf, ts FROM {}.head FOR UPDATE")).fetchone()
            if found is None:
                msg = f"the ledger {url.name} has no log: its tables were emptied"
                raise LedgerUnavailableError(msg)
            head = Head(*found)
            copy = f"{url.schema[: _LONGEST - 21]}_{head.log.replace('-', '_')}" if head.size else ""
            if copy:
                _copy(cursor, url.schema, copy)
            _empty(cursor, url)
            held = cursor.execute(
                _of(url, "SELECT id FROM {}.hold WHERE state = 'held' ORDER BY created, id")
            ).fetchall()
            return head, tuple(name for (name,) in held), copy
    except psycopg.Error as error:
        msg = f"no way could be made for a new log in {url.name}: {said(error)}"
        raise LedgerUnavailableError(msg) from error


def _copy(cursor: psycopg.Cursor, schema: str, copy: str) -> None:
    cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(copy)))
    for table in _COPIED:
        names = sql.Identifier(copy, table), sql.Identifier(schema, table)
        cursor.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(*names))
        cursor.execute(sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM {}").format(*names))


def _empty(cursor: psycopg.Cursor, url: PostgresUrl) -> None:
    for key, data in cursor.execute(_of(url, "SELECT key, data FROM {}.counter FOR UPDATE")).fetchall():
        row = unpack_row(data)
        if row.oseq:
            row.oseq, row.oprev = 0, b""
            cursor.execute(_of(url, "UPDATE {}.counter SET data = %b WHERE key = %b"), (pack(row), key))
    for table in _LOG:
        cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(url.schema, table)))
    # The time stays, for it never runs backwards, and so does the key.
    cursor.execute(_of(url, "UPDATE {}.head SET log = %s, size = 0, leaf = %b, frontier = ''"), (new_log(), NO_LEAF))
    cursor.execute(
        sql.SQL("INSERT INTO {} (public, after, proof) SELECT signer, 0, '' FROM {} WHERE signer != ''").format(
            sql.Identifier(url.schema, "signing_key"), sql.Identifier(url.schema, "head")
        )
    )


def _of(url: PostgresUrl, text: LiteralString) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(url.schema))
