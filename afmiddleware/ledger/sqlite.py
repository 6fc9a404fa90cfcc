"""The SQLite ledger: durable, on one host, shared by any number of processes and threads of it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.chance import Supply
from afmiddleware.ledger.durable import Durable
from afmiddleware.ledger.kept import text_of
from afmiddleware.ledger.receipt_key import signer_at
from afmiddleware.ledger.room import MOST_ROWS
from afmiddleware.ledger.sqlite_file import Location, connect, connect_to_read, prepare, transaction
from afmiddleware.ledger.sqlite_forks import Forks, Reopened
from afmiddleware.ledger.sqlite_taken import Files
from afmiddleware.ledger.sqlite_writer import PUT_API_KEY, SqliteWriter
from afmiddleware.ledger.stored import COLUMNS, Seen, api_key_row, holds_of, stored, unpack_api_key
from afmiddleware.limits.rows import Hold, Row, unpack_row
from afmiddleware.model.revocation import Revocation
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.merkle import Frontier
from afmiddleware.receipts.notary import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

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
_TEXTS: Final = "SELECT digest, data FROM policy WHERE substr(digest, 1, ?) = ? LIMIT 2"
_revocation = msgspec.msgpack.Decoder(Revocation).decode


class SqliteReader:
    """What can be read of a ledger in one file, by any thread of any process. It makes and migrates nothing.

    A file, folder or disk that cannot be written can still be read.

    Raises `ReceiptError` when there is no such file, and `LedgerUnavailableError` for any fault of it.
    """

    def __init__(self, location: Location) -> None:
        if not location.database.is_file():
            msg = f"there is no ledger at {location.database}; the first start makes one, copies restore a lost one"
            raise ReceiptError(msg)
        self.location = location
        self._connect = connect_to_read
        self._forks = Forks()
        self._local = threading.local()

    def head(self) -> Head:
        """The end of the receipt log."""
        with self._read() as connection:
            found = connection.execute("SELECT log, size, leaf, ts FROM head WHERE id = 1").fetchone()
        if found is None:
            msg = f"the ledger {self.location.database} has lost the head of its receipt log"
            raise LedgerUnavailableError(msg)
        return Head(*found)

    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]:
        """Stored receipts in order, read a page at a time so that a long reader holds nobody up."""
        conditions, values = ["seq > ?"], [wanted.after]
        for name in ("kind", "capability", "verdict", "decision"):
            value = getattr(wanted, name)
            if value:
                conditions.append(f"{name} = ?")
                values.append(value)
        # Only names from this file are put into the text; values are bound.
        where = " AND ".join(conditions)
        query = f"SELECT {COLUMNS} FROM receipt WHERE {where} ORDER BY seq LIMIT {PAGE}"  # noqa: S608
        while True:
            with self._read() as connection:
                page = connection.execute(query, values).fetchall()
            for row in page:
                yield stored(row)
            if len(page) < PAGE:
                return
            values[0] = page[-1][0]

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Hashes of the log's tree."""
        if level:
            query = "SELECT hash FROM node WHERE level = ? AND place >= ? AND place < ? ORDER BY place"
            values: tuple[int, ...] = (level, first, first + count)
        else:
            query = "SELECT leaf FROM receipt WHERE seq > ? AND seq <= ? ORDER BY seq"
            values = (first, first + count)
        with self._read() as connection:
            return [one for (one,) in connection.execute(query, values)]

    def checkpoint(self) -> str:
        """The last signed checkpoint."""
        with self._read() as connection:
            found = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return str(found[0]) if found else ""

    def checkpoints(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """The signed checkpoints, read a page at a time."""
        query = f"SELECT size, note FROM checkpoint WHERE size > ? ORDER BY size LIMIT {PAGE}"  # noqa: S608 (a number)
        while True:
            with self._read() as connection:
                page = connection.execute(query, (after,)).fetchall()
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def signing_keys(self) -> list[SigningKey]:
        """The public keys of the log."""
        with self._read() as connection:
            found = connection.execute("SELECT after, public, proof FROM signing_key ORDER BY after, rowid")
            return [SigningKey(*row) for row in found]

    def frontier(self) -> Frontier:
        """The tree at the end of the log."""
        with self._read() as connection:
            return Frontier.unpack(*connection.execute("SELECT size, frontier FROM head WHERE id = 1").fetchone())

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """The counters of `keys`."""
        with self._read() as connection:
            marks = ",".join("?" * len(keys))
            found = connection.execute(f"SELECT key, data FROM counter WHERE key IN ({marks})", keys)  # noqa: S608
            return {key: unpack_row(data) for key, data in found}

    def marked(self) -> Iterator[tuple[str, Row]]:
        """The rows that say more than counters do, looked for a page at a time."""
        after, page = "", [("", b"")]
        while page:
            with self._read() as connection:
                query = f"SELECT key, data FROM counter WHERE key > ? ORDER BY key LIMIT {PAGE}"  # noqa: S608 (a number)
                page = connection.execute(query, (after,)).fetchall()
            for key, data in page:
                after, row = key, unpack_row(data)
                if row.more is not None:
                    yield key, row

    def holds(self, state: str = "held", owner: str = "") -> Iterator[tuple[str, Hold]]:
        """Reservations in a state, of an `owner` or of all, oldest first."""
        query = "SELECT id, data FROM hold WHERE state = ? AND instr(data, ?) ORDER BY created"
        with self._read() as connection:
            found = connection.execute(query, (state, owner.encode())).fetchall()
        return holds_of(owner, found)

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """One API key's record."""
        with self._read() as connection:
            found = connection.execute("SELECT data FROM api_key WHERE id = ?", (key_id,)).fetchone()
        return unpack_api_key(found[0]) if found else None

    def api_keys(self) -> list[ApiKeyRecord]:
        """Every API key's record, oldest first."""
        with self._read() as connection:
            return [
                unpack_api_key(data) for (data,) in connection.execute("SELECT data FROM api_key ORDER BY created, id")
            ]

    def revocations(self) -> list[Revocation]:
        """Every token that was taken back."""
        with self._read() as connection:
            return [_revocation(data) for (data,) in connection.execute("SELECT data FROM revocation ORDER BY key")]

    def policy(self, beginning: str) -> PolicyText | None:
        """The text of a policy that decided; a ledger of an older version has none."""

        def read(by: str) -> list[tuple[str, bytes]]:
            return connection.execute(_TEXTS, (len(by), by)).fetchall()

        with self._read() as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'policy'").fetchone()
            return text_of(read, beginning) if there is not None else None

    def close(self) -> None:
        """Let go of this thread's connection. Idempotent."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        """This thread's connection, none that is from before a fork. Raises `LedgerUnavailableError` for any fault."""
        local = self._local
        try:
            with self._forks.used() as count:
                if getattr(local, "count", None) != count or local.connection is None:
                    local.connection, local.count = self._connect(self.location.database), count
                    self._forks.opened(local.connection)
                yield local.connection
        except sqlite3.Error as error:
            msg = f"the ledger {self.location.database} cannot be read: {error}"
            raise LedgerUnavailableError(msg) from error


class SqliteLedger(Durable, SqliteReader):
    """A ledger in one file. Opening it makes, migrates and checks it; the first commit starts the writer thread.

    Raises `LedgerError` or `ReceiptError` when the file, its key, or its anchor is not what it should be: a database
    that has fewer receipts than its anchor has seen was cut off or restored, and must not be continued.
    """

    def __init__(  # noqa: PLR0913 (what a ledger is made of)
        self,
        location: Location,
        clock: Callable[[], int],
        undo: Callable[[Entry, Held], Conclusion],
        *,
        draw: Callable[[int], bytes] | None = None,
        secret: bytes | None = None,
        signer: Signer | None = None,
        anchors: Anchors | None = None,
        rates: Rates | None = None,
        deadline: float = 2.0,
        max_rows: int = MOST_ROWS,
    ) -> None:
        self.keys = prepare(location, secret, signer, 5 * deadline)
        SqliteReader.__init__(self, location)
        self._connect = connect
        self.anchors = anchors
        if anchors is not None:
            anchors.check(self)
        seen, supply = Seen(), draw or Supply()
        path, keys, place = location.database, self.keys, location.signing

        def read_signer(public: bytes = b"") -> Signer | None:
            return signer or signer_at(place, public)

        self._files = files = Files(path)

        def make_writer() -> Writer:
            return SqliteWriter(
                path, keys, clock, supply, anchors, seen, read_signer, files, self._forks.count, max_rows
            )

        def open_writer() -> Writer:
            return Reopened(make_writer, self._forks)

        self._begin(open_writer, undo, partial(SqliteReader.rows, self), rates, deadline)

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Store or replace a record."""
        with self._read() as connection, transaction(connection):
            connection.execute(PUT_API_KEY, api_key_row(record))

    def close(self) -> None:
        """Write what waits, then end the writer thread."""
        with self._files.closing():
            self._end()
            SqliteReader.close(self)
