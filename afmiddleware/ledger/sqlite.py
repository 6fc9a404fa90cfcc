"""The SQLite ledger: durable, on one host, shared by any number of processes and threads of it."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.identity.api_keys import ApiKeyRecord
from afmiddleware.ledger.anchor import AnchorFile, read_anchor
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.committer import Committer
from afmiddleware.ledger.sqlite_file import Location, connect, prepare, transaction
from afmiddleware.ledger.sqlite_writer import Seen, SqliteWriter
from afmiddleware.limits.rows import Hold, Row, unpack_hold, unpack_row
from afmiddleware.model.receipt import Receipt
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.verify import StoredReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from afmiddleware.model.entry import Closed, Conclusion, Entry, Held

PAGE: Final = 500
_RECEIPT_COLUMNS: Final = "seq, body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed"
_disclosed = msgspec.msgpack.Decoder(dict[str, tuple[bytes, str | None]]).decode
_pack = msgspec.msgpack.Encoder().encode
_api_key = msgspec.msgpack.Decoder(ApiKeyRecord).decode


class SqliteReader:
    """What can be read of a ledger in one file, by any thread of any process. It makes and migrates nothing.

    Raises `ReceiptError` when there is no such file, and `LedgerUnavailableError` for any fault of it.
    """

    def __init__(self, location: Location) -> None:
        if not location.database.is_file():
            msg = f"there is no ledger at {location.database}"
            raise ReceiptError(msg)
        self.location = location
        self._local = threading.local()

    def head(self) -> Head:
        """The end of the receipt log."""
        with self._read() as connection:
            return Head(*connection.execute("SELECT log, size, leaf, ts FROM head WHERE id = 1").fetchone())

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
        query = f"SELECT {_RECEIPT_COLUMNS} FROM receipt WHERE {where} ORDER BY seq LIMIT {PAGE}"  # noqa: S608
        while True:
            with self._read() as connection:
                page = connection.execute(query, values).fetchall()
            for row in page:
                yield _stored(row)
            if len(page) < PAGE:
                return
            values[0] = page[-1][0]

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """The counters of `keys`."""
        with self._read() as connection:
            marks = ",".join("?" * len(keys))
            found = connection.execute(f"SELECT key, data FROM counter WHERE key IN ({marks})", keys)  # noqa: S608
            return {key: unpack_row(data) for key, data in found}

    def holds(self, state: str = "held") -> Iterator[tuple[str, Hold]]:
        """Reservations in a state, oldest first."""
        with self._read() as connection:
            found = connection.execute(
                "SELECT id, data FROM hold WHERE state = ? ORDER BY created", (state,)
            ).fetchall()
        return ((name, unpack_hold(data)) for name, data in found)

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """One API key's record."""
        with self._read() as connection:
            found = connection.execute("SELECT data FROM api_key WHERE id = ?", (key_id,)).fetchone()
        return _api_key(found[0]) if found else None

    def api_keys(self) -> list[ApiKeyRecord]:
        """Every API key's record, oldest first."""
        with self._read() as connection:
            return [_api_key(data) for (data,) in connection.execute("SELECT data FROM api_key ORDER BY created, id")]

    def close(self) -> None:
        """Let go of this thread's connection. Idempotent."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        """This thread's connection in this process. Raises `LedgerUnavailableError` for any fault of the file."""
        local = self._local
        try:
            if getattr(local, "pid", None) != os.getpid() or local.connection is None:
                local.connection, local.pid = connect(self.location.database), os.getpid()
            yield local.connection
        except sqlite3.Error as error:
            msg = f"the ledger {self.location.database} cannot be read: {error}"
            raise LedgerUnavailableError(msg) from error


class SqliteLedger(SqliteReader):
    """A ledger in one file. Opening it makes, migrates and checks it; the first commit starts the writer thread.

    Raises `LedgerError` or `ReceiptError` when the file, its key, or its anchor is not what it should be: a database
    that has fewer receipts than its anchor has seen was cut off or restored, and must not be continued.
    """

    inline = False

    def __init__(  # noqa: PLR0913 (what a ledger is made of)
        self,
        location: Location,
        clock: Callable[[], int],
        undo: Callable[[Entry, Held], Conclusion],
        *,
        draw: Callable[[int], bytes] = os.urandom,
        secret: bytes | None = None,
        anchor: AnchorFile | None = None,
        deadline: float = 2.0,
    ) -> None:
        self.keys = prepare(location, secret)
        super().__init__(location)
        if anchor is not None:
            _check_anchor(anchor, self)
        seen = Seen()
        path, keys = location.database, self.keys
        self._committer = Committer(
            lambda: SqliteWriter(path, keys, clock, draw, anchor, seen),
            undo,
            deadline=deadline,
        )

    def commit(self, item: Entry | Conclusion) -> Held | Closed:
        """Commit and wait."""
        return self._committer.commit(item)

    async def acommit(self, item: Entry | Conclusion) -> Held | Closed:
        """Commit and wait without blocking the event loop."""
        return await self._committer.acommit(item)

    def post(self, item: Entry | Conclusion) -> None:
        """Commit without waiting."""
        self._committer.post(item)

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Store or replace a record."""
        with self._read() as connection, transaction(connection):
            connection.execute(
                "INSERT OR REPLACE INTO api_key VALUES (?, ?, ?, ?)",
                (record.id, record.account, record.created, _pack(record)),
            )

    def close(self) -> None:
        """Write what waits, then end the writer thread."""
        self._committer.close()
        super().close()


def _stored(row: tuple[int, bytes, bytes, bytes, str, str, str, str, str, int, bytes | None]) -> StoredReceipt:
    seq, body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed = row
    # The types are the tables' own, but anybody may have changed the tables.
    if not all(type(one) is bytes for one in row[1:4]):
        msg = f"receipt {seq} cannot be read: its body, leaf or HMAC is not made of bytes"
        raise ReceiptError(msg)
    return StoredReceipt(
        receipt=Receipt(seq=seq, body=body, leaf=leaf, mac=mac, disclosed=_values(disclosed)),
        columns={
            "kind": kind,
            "decision": decision,
            "capability": capability,
            "verdict": verdict,
            "code": code,
            "ts": ts,
        },
    )


def _values(packed: bytes | None) -> dict[str, tuple[bytes, str | None]]:
    """The values behind a receipt's commitments. What cannot be read fits no commitment, so that `verify` names it."""
    if packed is None:
        return {}
    try:
        return _disclosed(packed)
    except ValueError:
        return {"": (b"", None)}


def _check_anchor(anchor: AnchorFile, ledger: SqliteLedger) -> None:
    mark, head = read_anchor(anchor.path), ledger.head()
    if mark is None:
        return
    place = f"the anchor {anchor.path}"
    if mark.log != head.log:
        msg = f"{place} belongs to the log {mark.log}, the ledger holds {head.log}: point them at each other again"
        raise ReceiptError(msg)
    if mark.size > head.size:
        told = f"{place} has seen {mark.size} receipts, the ledger has {head.size}"
        msg = f"{told}: its tail was cut off, or it is an old copy"
        raise ReceiptError(msg)
    found = next(iter(ledger.receipts(Filter(after=mark.size - 1))), None)
    if found is None or found.receipt.leaf != mark.leaf:
        msg = f"receipt {mark.size} in the ledger is not the one {place} has seen: the log was rewritten"
        raise ReceiptError(msg)
