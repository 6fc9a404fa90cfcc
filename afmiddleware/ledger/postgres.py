"""The PostgreSQL ledger: durable, shared by any number of processes on any number of hosts."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, LiteralString

import msgspec
import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.chance import Supply
from afmiddleware.ledger.durable import Durable
from afmiddleware.ledger.kept import text_of
from afmiddleware.ledger.postgres_server import connection_string, prepare, row_key, said, unpooled
from afmiddleware.ledger.postgres_statements import Statements
from afmiddleware.ledger.postgres_writer import PostgresWriter
from afmiddleware.ledger.receipt_key import signer_at
from afmiddleware.ledger.room import MOST_ROWS
from afmiddleware.ledger.steady import Steady
from afmiddleware.ledger.stored import COLUMNS, Seen, api_key_row, holds_of, stored, unpack_api_key
from afmiddleware.limits.rows import Hold, Row, unpack_row
from afmiddleware.model.revocation import Revocation
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.merkle import Frontier
from afmiddleware.receipts.notary import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from afmiddleware.config.ledger_url import PostgresUrl
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.base import Filter
    from afmiddleware.ledger.committer import Writer
    from afmiddleware.ledger.redis_rates import Rates
    from afmiddleware.model.api_key import ApiKeyRecord
    from afmiddleware.model.entry import Conclusion, Entry, Held
    from afmiddleware.model.policy_text import PolicyText
    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.verify import StoredReceipt

PAGE: Final = 500
_IDLE: Final = 60.0
_revocation = msgspec.msgpack.Decoder(Revocation).decode


class PostgresReader:
    """What can be read of a ledger in PostgreSQL, by any thread of any process. It makes and migrates nothing.

    Connections come from a pool that each process makes for itself when it first reads. Raises `ReceiptError` when
    there is no ledger, and `LedgerUnavailableError` for any fault of the server.
    """

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url
        self._schema = sql.Identifier(url.schema)
        self._pool: ConnectionPool[psycopg.Connection] | None = None
        self._pid = 0
        self._inherited: list[object] = []
        self._lock = threading.Lock()

    def head(self) -> Head:
        """The end of the receipt log."""
        try:
            found = self._all("SELECT log, size, leaf, ts FROM {}.head WHERE id = 1")
        except LedgerUnavailableError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
                raise self._none() from error
            raise
        if not found:
            raise self._none()
        return Head(*found[0])

    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]:
        """Stored receipts in order, read a page at a time so that a long reader holds nobody up."""
        conditions: list[LiteralString] = ["seq > %s"]
        values: list[Any] = [wanted.after]
        for name in ("kind", "capability", "verdict", "decision"):
            value = getattr(wanted, name)
            if value:
                conditions.append(f"{name} = %s")
                values.append(value)
        # Only names from this file are put into the text; values are bound.
        query = f"SELECT {COLUMNS} FROM {{}}.receipt WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT %s"  # noqa: S608
        while True:
            page = self._all(query, [*values, PAGE])
            for row in page:
                yield stored(row)
            if len(page) < PAGE:
                return
            values[0] = page[-1][0]

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Hashes of the log's tree."""
        if level:
            found = self._all(
                "SELECT hash FROM {}.node WHERE level = %s AND place >= %s AND place < %s ORDER BY place",
                [level, first, first + count],
            )
        else:
            query: LiteralString = "SELECT leaf FROM {}.receipt WHERE seq > %s AND seq <= %s ORDER BY seq"
            found = self._all(query, [first, first + count])
        return [one for (one,) in found]

    def checkpoint(self) -> str:
        """The last signed checkpoint."""
        found = self._all("SELECT note FROM {}.checkpoint ORDER BY size DESC LIMIT 1")
        return str(found[0][0]) if found else ""

    def checkpoints(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """The signed checkpoints, read a page at a time."""
        while True:
            query: LiteralString = "SELECT size, note FROM {}.checkpoint WHERE size > %s ORDER BY size LIMIT %s"
            page = self._all(query, [after, PAGE])
            yield from ((int(size), str(note)) for size, note in page)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def signing_keys(self) -> list[SigningKey]:
        """The public keys of the log."""
        found = self._all("SELECT after, public, proof FROM {}.signing_key ORDER BY after, id")
        return [SigningKey(*row) for row in found]

    def frontier(self) -> Frontier:
        """The tree at the end of the log."""
        return Frontier.unpack(*self._all("SELECT size, frontier FROM {}.head WHERE id = 1")[0])

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """The counters of `keys`."""
        names = {row_key(key): key for key in keys}
        found = self._all("SELECT key, data FROM {}.counter WHERE key = ANY(%s)", [sorted(names)])
        return {names[key]: unpack_row(data) for key, data in found}

    def marked(self) -> Iterator[tuple[str, Row]]:
        """The rows that say more than counters do, looked for a page at a time."""
        query: LiteralString = "SELECT key, data FROM {}.counter WHERE key > %b ORDER BY key LIMIT %s"
        after, page = b"", [(b"", b"")]
        while page:
            page = self._all(query, [after, PAGE])
            for key, data in page:
                after, row = key, unpack_row(data)
                if row.more is not None:
                    yield _plain(key), row

    def holds(self, state: str = "held", owner: str = "") -> Iterator[tuple[str, Hold]]:
        """Reservations in a state, of an `owner` or of all, oldest first."""
        query: LiteralString = "SELECT id, data FROM {}.hold WHERE state = %s AND position(%b IN data) > 0"
        found = self._all(query + " ORDER BY created, id", [state, owner.encode()])
        return holds_of(owner, found)

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """One API key's record."""
        if "\0" in key_id:
            return None
        found = self._all("SELECT data FROM {}.api_key WHERE id = %s", [key_id])
        return unpack_api_key(found[0][0]) if found else None

    def api_keys(self) -> list[ApiKeyRecord]:
        """Every API key's record, oldest first."""
        return [unpack_api_key(data) for (data,) in self._all("SELECT data FROM {}.api_key ORDER BY created, id")]

    def revocations(self) -> list[Revocation]:
        """Every token that was taken back."""
        return [_revocation(data) for (data,) in self._all("SELECT data FROM {}.revocation ORDER BY key")]

    def policy(self, beginning: str) -> PolicyText | None:
        """The text of a policy that decided; a ledger of an older version has none."""

        def read(by: str) -> list[tuple[str, bytes]]:
            query: LiteralString = "SELECT digest, data FROM {}.policy WHERE left(digest, %s) = %s LIMIT 2"
            return [(str(digest), bytes(data)) for digest, data in self._all(query, [len(by), by])]

        try:
            return text_of(read, beginning)
        except LedgerUnavailableError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                return None
            raise

    def close(self) -> None:
        """Let go of this process's connections. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _all(self, query: LiteralString, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._read() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(sql.SQL(query).format(self._schema), values).fetchall()

    @contextmanager
    def _read(self) -> Generator[psycopg.Connection]:
        """A connection of this process's pool. Raises `LedgerUnavailableError` for any fault of the server."""
        try:
            with self._opened().connection(self._url.timeout) as connection:
                if connection.prepare_threshold is not None:
                    yield connection
                    return
                with connection.transaction():
                    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(f"{self._url.timeout}s"))
                    yield connection
        except (psycopg.Error, PoolTimeout) as error:
            msg = f"the ledger {self._url.name} cannot be read: {said(error)}"
            raise LedgerUnavailableError(msg) from error

    def _opened(self) -> ConnectionPool[psycopg.Connection]:
        if self._pid != os.getpid():
            # After a fork the sockets are the parent's and the pool's threads are gone: neither is used nor closed.
            self._inherited.append(self._pool)
            self._lock, self._pool, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._pool is None:
                self._pool = _pool(self._url)
            return self._pool

    def _none(self) -> ReceiptError:
        return ReceiptError(f"there is no ledger in the schema {self._url.schema} of {self._url.name}")


def _plain(stored: bytes) -> str:
    """A key as it was before it was stored, empty for one that is stored as a digest."""
    return "" if stored[:1] == b"\0" else stored.decode("utf-8", "surrogatepass")


def _pool(url: PostgresUrl) -> ConnectionPool[psycopg.Connection]:
    def configure(connection: psycopg.Connection) -> None:
        unpooled(connection, url.timeout)

    return ConnectionPool(
        connection_string(url),
        kwargs={"autocommit": True},
        configure=configure,
        min_size=0,
        max_size=url.pool,
        max_idle=_IDLE,
        num_workers=1,
        timeout=url.timeout,
        reconnect_timeout=url.timeout,
        check=ConnectionPool.check_connection,
        open=True,
        name="afmiddleware-ledger",
    )


class PostgresLedger(Durable, PostgresReader):
    """A ledger in one schema of a database. Opening it makes, migrates and checks it.

    The first commit of a process starts its writer thread, with a connection of its own. `clock` is for tests; without
    it the database's clock decides, whatever the hosts' say. Raises as `SqliteLedger` does.
    """

    def __init__(  # noqa: PLR0913 (what a ledger is made of)
        self,
        url: PostgresUrl,
        key: Path,
        undo: Callable[[Entry, Held], Conclusion],
        *,
        clock: Callable[[], int] | None = None,
        draw: Callable[[int], bytes] | None = None,
        secret: bytes | None = None,
        signing: Path | None = None,
        signer: Signer | None = None,
        anchors: Anchors | None = None,
        rates: Rates | None = None,
        deadline: float | None = None,
        max_rows: int = MOST_ROWS,
    ) -> None:
        place = signing or key.with_name(f"{key.stem}.signing.pem")
        self.keys = prepare(url, key, secret, place, signer)
        PostgresReader.__init__(self, url)
        self.anchors = anchors
        if anchors is not None:
            anchors.check(self)
        seen = self._seen = Seen(steady=Steady(url.name) if clock is None else None)
        keys, supply = self.keys, draw or Supply()

        def read_signer(public: bytes = b"") -> Signer | None:
            return signer or signer_at(place, public)

        def open_writer() -> Writer:
            return PostgresWriter(url, keys, supply, anchors, seen, clock, read_signer, max_rows)

        waits = float(url.timeout) if deadline is None else deadline
        self._begin(open_writer, undo, partial(PostgresReader.rows, self), rates, waits)

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Store or replace a record."""
        with self._read() as connection:
            connection.execute(Statements(self._url.schema).put_api_key, api_key_row(record))

    def close(self) -> None:
        """Write what waits, then end the writer thread and the pool."""
        self._end()
        PostgresReader.close(self)
