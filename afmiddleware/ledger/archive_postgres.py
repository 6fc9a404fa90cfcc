"""An archive in a schema of a PostgreSQL database, made in one transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.postgres_schema import migrate
from afmiddleware.ledger.postgres_server import connect, said
from afmiddleware.ledger.receipt_key import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.config.ledger_url import PostgresUrl
    from afmiddleware.ledger.archive import End, ReceiptRow
    from afmiddleware.receipts.merkle import Node


class PostgresShelf:
    """A new schema. Raises `ReceiptError` when it holds a ledger, for a log is never mixed into another."""

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url
        self._connection = connect(url)
        try:
            self._connection.execute("BEGIN")
            there = self._connection.execute("SELECT to_regclass(%s)", (f"{url.schema}.meta",)).fetchone()
            taken = there is not None and there[0] is not None
            if not taken:
                migrate(self._connection, url.schema)
        except psycopg.Error as error:
            self.drop()
            raise self._failed(error) from error
        if taken:
            self.drop()
            msg = f"there is a ledger in the schema {url.schema} of {url.name} already: import into another schema"
            raise ReceiptError(msg)

    def put(self, receipts: list[ReceiptRow], nodes: list[Node], notes: list[tuple[int, str]]) -> None:
        """Store a batch."""
        self._copy("receipt", receipts)
        self._copy("node", [(node.level, node.index, node.hash) for node in nodes])
        self._copy("checkpoint", notes)

    def finish(self, end: End) -> None:
        """Store the end of the log, and commit."""
        signer = end.keys[-1].public if end.keys else b""
        head = sql.Identifier(self._url.schema, "head")
        keys = sql.Identifier(self._url.schema, "signing_key")
        try:
            self._connection.execute(
                sql.SQL("INSERT INTO {} VALUES (1, %s, %s, %s, %s, %s, %s, %s)").format(head),
                (end.log, end.size, end.leaf, end.ts, ARCHIVE, end.frontier, signer),
            )
            for one in end.keys:
                insert = sql.SQL("INSERT INTO {} (public, after, proof) VALUES (%s, %s, %s)").format(keys)
                self._connection.execute(insert, (one.public, one.after, one.proof))
            self._connection.execute("COMMIT")
            self._connection.close()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def drop(self) -> None:
        """End the transaction without a trace."""
        with suppress(psycopg.Error):
            self._connection.close()

    def _copy(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        name = sql.Identifier(self._url.schema, table)
        try:
            with (
                self._connection.cursor() as cursor,
                cursor.copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: psycopg.Error) -> LedgerUnavailableError:
        return LedgerUnavailableError(f"the schema {self._url.schema} cannot be made: {said(error)}")
