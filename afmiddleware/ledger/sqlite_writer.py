"""The writer thread's side of an SQLite ledger: one transaction for everything that waits."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.ledger.books import FLUSH_AFTER, Books, claims_of, crowds, keys_of
from afmiddleware.ledger.claims import pack_claim, unanswered, unpack_claim
from afmiddleware.ledger.committer import CommitUnknownError
from afmiddleware.ledger.orders import changed_keys
from afmiddleware.ledger.reach import keys_of_hold, lacks
from afmiddleware.ledger.room import MOST_ROWS, count_rows, fewer, tally
from afmiddleware.ledger.sqlite_batch import CHECKPOINT, COUNTER, HEAD, HOLD, NODE, RECEIPT, prepare, put
from afmiddleware.ledger.sqlite_file import Queue, connect, transaction
from afmiddleware.ledger.sqlite_taken import check_pages
from afmiddleware.ledger.sqlite_warm import Warm, select
from afmiddleware.ledger.stored import (
    TAIL,
    api_key_row,
    check_known,
    check_tail,
    public_of,
    revocation_row,
    signer_of,
    unpack_api_key,
    without,
)
from afmiddleware.ledger.sweep import PAGE, Swept, overdue
from afmiddleware.limits.rows import pack, unpack_hold, unpack_row
from afmiddleware.limits.slots import LEASE, RENEWED
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model.entry import Expire, Ping
from afmiddleware.model.receipt import Seal
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.merkle import Frontier
from afmiddleware.receipts.notary import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.committer import Answer
    from afmiddleware.ledger.sqlite_taken import Files
    from afmiddleware.ledger.stored import Seen
    from afmiddleware.model.entry import Item, Record
    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.keys import ReceiptKeys

EXPIRED_AT_ONCE: Final = 100
FOLDED_AT: Final = 4000
"""How many pages of 4 KiB the write-ahead log may have before a commit folds it back into the database."""
_CACHED_KIB: Final = 16_000
"""How much of the database a writer keeps in memory: the counters of many callers are on many pages."""

PUT_API_KEY: Final = "INSERT OR REPLACE INTO api_key VALUES (?, ?, ?, ?)"
_API_KEY_AT: Final = "SELECT data FROM api_key WHERE id = ?"
_REVOCATION: Final = "INSERT OR REPLACE INTO revocation VALUES (?, ?, ?)"
_LEAF_AT: Final = "SELECT leaf FROM receipt WHERE seq = ?"
_END = "SELECT log, size, leaf, ts, frontier, signer FROM head WHERE id = 1"
_CLAIMS_AT = "SELECT key, data FROM claim WHERE key IN"
_CLAIM = (
    "INSERT INTO claim VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, data = excluded.data"
)
_LEASE = "INSERT INTO lease VALUES (?, ?) ON CONFLICT (holder) DO UPDATE SET until = excluded.until"
_ROWS_AT = "SELECT key, data FROM counter WHERE key IN"
_HOLDS_AT = "SELECT id, data FROM hold WHERE id IN"
_PAGE = "SELECT key, data FROM counter WHERE key > ? ORDER BY key LIMIT ?"
_STALE = (
    (
        "hold",
        "SELECT 1 FROM hold WHERE state NOT IN ('held', 'unknown') AND created < ? LIMIT 1",
        (
            "DELETE FROM hold WHERE id IN"
            " (SELECT id FROM hold WHERE state NOT IN ('held', 'unknown') AND created < ? LIMIT ?)"
        ),
    ),
    (
        "claim",
        "SELECT 1 FROM claim WHERE expires < ? LIMIT 1",
        "DELETE FROM claim WHERE key IN (SELECT key FROM claim WHERE expires < ? LIMIT ?)",
    ),
    (
        "revocation",
        "SELECT 1 FROM revocation WHERE until < ? LIMIT 1",
        "DELETE FROM revocation WHERE key IN (SELECT key FROM revocation WHERE until < ? LIMIT ?)",
    ),
    (
        "lease",
        "SELECT 1 FROM lease WHERE until < ? LIMIT 1",
        "DELETE FROM lease WHERE holder IN (SELECT holder FROM lease WHERE until < ? LIMIT ?)",
    ),
)
_log = logging.getLogger("afmiddleware.ledger")


class SqliteWriter:
    """Makes transactions on one connection, in the thread that opened it."""

    def __init__(  # noqa: PLR0913 (what a writer is made of)
        self,
        path: Path,
        keys: ReceiptKeys,
        clock: Callable[[], int],
        draw: Callable[[int], bytes],
        anchors: Anchors | None,
        seen: Seen,
        read_signer: Callable[[bytes], Signer | None],
        files: Files,
        count: int = 0,
        most: int = MOST_ROWS,
    ) -> None:
        self._path = path
        self._keys = keys
        self._clock = clock
        self._draw = draw
        self._anchors = anchors
        self._note = ""
        self._connection = _opened(path, seen.head, whole=not files.cut)
        self._queue = Queue(path)
        self._files = files
        files.opened(count)
        files.cut = False
        self._seen = seen
        self._most = most
        self._swept = ""
        self._read_signer = read_signer
        self._signer = read_signer(b"")
        self._frontier = Frontier()
        self._warm = Warm(self._connection)
        seen.hold(draw)

    def write(self, items: Sequence[Item]) -> list[Answer]:
        """Decide and store the items in one transaction. Raises `LedgerUnavailableError`; then nothing is stored."""
        return self._transact(items, flush=False)

    def rest(self) -> None:
        """Keep up the lease of this process's slots, do what the deadlines of reservations say, and sweep."""
        now = self._clock()
        query = "SELECT id FROM hold WHERE due > 0 AND due <= ? ORDER BY due LIMIT ?"
        try:
            late = [Expire(name) for (name,) in self._connection.execute(query, (now, EXPIRED_AT_ONCE))]
        except sqlite3.Error as error:
            msg = f"the ledger {self._path} cannot be read: {error}"
            raise LedgerUnavailableError(msg) from error
        if late or self._seen.turned_away:
            self._transact(late, flush=False)
        try:
            if self._seen.lease and self._seen.lease < now + LEASE - RENEWED:
                with self._turn(), transaction(self._connection):
                    self._connection.execute(_LEASE, (self._seen.holder, now + LEASE))
                self._seen.lease = now + LEASE
            self._sweep(now)
        except (sqlite3.Error, OSError) as error:
            msg = f"the ledger {self._path} did not commit: {error}"
            raise LedgerUnavailableError(msg) from error

    def _sweep(self, now: int) -> None:
        """Drop a few rows that are of no use any more."""
        connection = self._connection
        page = connection.execute(_PAGE, (self._swept, PAGE)).fetchall()
        self._swept = page[-1][0] if len(page) == PAGE else ""
        over = overdue(now)
        if Swept(page, now).idle and not any(connection.execute(old, (over[at],)).fetchone() for at, old, _ in _STALE):
            return
        with self._turn(), transaction(connection):
            # What was seen without the lock may have been used since.
            self._warm.forget()
            again = select(connection, _ROWS_AT, [key for key, _ in page])
            found = Swept(again, now)
            connection.executemany("UPDATE counter SET data = ? WHERE key = ?", [(row, key) for key, row in found.kept])
            connection.executemany("DELETE FROM counter WHERE key = ?", [(key,) for key in found.dropped])
            for _, data in select(connection, _ROWS_AT, [CONTROL]) if found.dropped else ():
                row = fewer(unpack_row(data), found.dropped)
                connection.execute("UPDATE counter SET data = ? WHERE key = ?", (pack(row), CONTROL))
            for at, _, drop in _STALE:
                connection.execute(drop, (over[at], PAGE))

    def close(self, *, ending: bool) -> None:
        """Let go of the file. When the process is `ending`, record what was only counted, and free its slots."""
        try:
            if ending and self._seen.turned_away:
                self._transact((), flush=True)
            if ending and self._seen.lease:
                with self._turn(), transaction(self._connection):
                    self._connection.execute("DELETE FROM lease WHERE holder = ?", (self._seen.holder,))
        except (AFError, sqlite3.Error, OSError) as error:
            _log.warning("the last counts were not recorded: %s", error)
        finally:
            self._connection.close()
            self._queue.close()

    def _transact(self, items: Sequence[Item], *, flush: bool) -> list[Answer]:
        answers: list[Answer] = []
        asked = False
        try:
            with self._turn():
                with transaction(self._connection):
                    books = self._load(items)
                    answers += [books.perform(item) for item in items]
                    if flush or books.now - books.turned_away_since > FLUSH_AFTER:
                        books.flush_turned_away()
                    records = books.records
                    self._store(books)
                    if not books.written and any(isinstance(item, Ping) for item in items):
                        self._touch()
                    asked = True
                if not records:
                    self._warm.keep()
                if any(record.erase for record in records):
                    self._empty()
        except (sqlite3.Error, OSError) as error:
            msg = f"the ledger {self._path} did not commit: {error}"
            if asked:
                # What could not be synced stands in the write-ahead log, and may be found there when it is opened anew.
                raise CommitUnknownError(msg, answers) from error
            raise LedgerUnavailableError(msg) from error
        self._seen.head = books.head
        self._seen.turned_away = books.turned_away
        self._seen.turned_away_since = books.turned_away_since
        self._seen.lease = books.renewed or self._seen.lease
        if self._anchors is not None and books.written:
            self._anchors.due(books.head, self._note)
        return answers

    def _touch(self) -> None:
        """Write something, so that what a full disk or a read-only file would refuse is refused; it says the same."""
        for step in (1, -1):
            self._connection.execute("UPDATE head SET size = size + ?", (step,))

    def _load(self, items: Sequence[Item]) -> Books:
        connection = self._connection
        warm = self._warm
        warm.begin()
        log, size, leaf, ts, frontier, signer = warm.end = warm.end or connection.execute(_END).fetchone()
        known = self._seen.head
        if known is not None and (size < known.size or log != known.log):
            msg = f"the log in {self._path} has {size} receipts, but {known.size} were acknowledged: it was replaced"
            raise LedgerUnavailableError(msg)
        self._frontier = Frontier.unpack(size, frontier)
        books = Books(Head(log, size, leaf, ts), self._keys, self._draw)
        self._signer = signer_of(signer, self._signer, self._read_signer, str(self._path))
        if self._signer is not None:
            books.seal = Seal()
        books.now = self._clock()
        books.turned_away = dict(self._seen.turned_away)
        books.turned_away_since = self._seen.turned_away_since
        keys, holds = keys_of(items)
        claims = claims_of(items)
        wanted = sorted(holds)
        while wanted:
            for name, data in warm.read(warm.holds, _HOLDS_AT, wanted):
                hold = books.holds[name] = unpack_hold(data)
                keys |= keys_of_hold(hold)
            wanted, more = lacks(books.holds, holds, claims)
            holds.update(wanted)
            claims += more
        for name, data in warm.read(warm.counters, _ROWS_AT, keys):
            books.rows[name] = unpack_row(data)
        if claims:
            for key, data in select(connection, _CLAIMS_AT, claims):
                books.claims[key] = unpack_claim(data)
        for key_id in changed_keys(items):
            for (data,) in connection.execute(_API_KEY_AT, (key_id,)):
                books.api_keys[key_id] = unpack_api_key(data)
        if self._seen.lease or crowds(items):
            leases = dict(connection.execute("SELECT holder, until FROM lease"))
            books.lease(self._seen.holder, self._seen.lease, leases)
        count_rows(books, self._most)
        return books

    def _store(self, books: Books) -> None:
        connection, warm = self._connection, self._warm
        tally(books)
        counters = [(key, pack(books.rows[key])) for key in books.changed]
        holds = [(name, books.holds[name], pack(books.holds[name])) for name in books.changed_holds]
        rows: list[tuple[object, ...]] = [(COUNTER, *one) for one in counters]
        rows += [(HOLD, name, hold.state, hold.created, hold.due, data) for name, hold, data in holds]
        if books.written:
            rows += self._appended(books)
        put(connection, rows)
        warm.counters.update(counters)
        warm.holds.update([(name, data) for name, _, data in holds])
        for key, claimed in books.changed_claims.items():
            if claimed is None:
                connection.execute("DELETE FROM claim WHERE key = ?", (key,))
            else:
                connection.execute(_CLAIM, (key, claimed.expires, pack_claim(claimed)))
        if books.renewed:
            connection.execute(_LEASE, (books.holder, books.renewed))
        if books.texts:
            connection.executemany("INSERT INTO policy VALUES (?, ?) ON CONFLICT DO NOTHING", books.texts.items())
        for record in books.records:
            self._carry_out(record, books.head.size)

    def _appended(self, books: Books) -> Iterator[tuple[object, ...]]:
        """The rows of the batch's receipts, of the tree over them, and of the end of the log."""
        head, leaves = books.head, [written.leaf for written in books.written]
        sealed = seal(head.log, self._frontier, leaves, self._signer, books.seal)
        self._note, frontier = sealed.note, sealed.frontier.pack()
        self._warm.end = (head.log, head.size, head.leaf, head.ts, frontier, public_of(self._signer))
        for columns in books.columns():
            yield RECEIPT, *columns
        yield HEAD, head.size, head.leaf, head.ts, frontier, head.size - len(leaves)
        for node in sealed.nodes:
            yield NODE, node.level, node.index, node.hash
        if sealed.note:
            yield CHECKPOINT, head.size, sealed.note

    def _carry_out(self, record: Record, size: int) -> None:
        """Do what a record says was done."""
        connection = self._connection
        if record.api_key is not None:
            connection.execute(PUT_API_KEY, api_key_row(record.api_key))
        if record.revocation is not None:
            connection.execute(_REVOCATION, revocation_row(record.revocation))
        if record.new_key:
            connection.execute("UPDATE head SET signer = ?", (record.new_key,))
            connection.execute("INSERT INTO signing_key VALUES (?, ?, ?)", (record.new_key, size, record.proof))
        for seq in record.erase_in:
            found = connection.execute("SELECT disclosed, decision FROM receipt WHERE seq = ?", (seq,)).fetchone()
            packed, decision = found or (None, "")
            connection.execute("UPDATE receipt SET disclosed = ? WHERE seq = ?", (without(packed, record.erase), seq))
            self._forget_answer(decision)

    def _forget_answer(self, decision: str) -> None:
        """Delete the answer that is kept for whoever repeats the request of a decision: it may say the value too."""
        connection = self._connection
        hold = connection.execute("SELECT data FROM hold WHERE id = ?", (decision,)).fetchone()
        claim = unpack_hold(hold[0]).claim if hold is not None else None
        found = connection.execute(f"{_CLAIMS_AT} (?)", (claim[0],)).fetchone() if claim is not None else None
        if found is not None:
            key, claimed = found[0], unpack_claim(found[1])
            if unanswered(claimed, decision):
                connection.execute(_CLAIM, (key, claimed.expires, pack_claim(claimed)))

    def _empty(self) -> None:
        """Empty the write-ahead log at once: it still holds what was erased."""
        if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            _log.warning("%s-wal still holds what was erased while somebody reads; redact again later", self._path)

    @contextmanager
    def _turn(self) -> Generator[None]:
        with self._queue.turn():
            self._files.check(self._connection)
            yield


def _opened(path: Path, known: Head | None, *, whole: bool) -> sqlite3.Connection:
    """A connection to a log that ends as its head says, and goes on from `known`. Raises `LedgerUnavailableError`."""
    connection = connect(path)
    try:
        if not whole:
            check_pages(connection)
        if known is not None:
            check_known(connection.execute(_LEAF_AT, (known.size,)).fetchone(), known, str(path))
        check_tail(connection.execute(TAIL).fetchone(), str(path))
        # Only here, where every commit is made in the turn of its process.
        connection.execute(f"PRAGMA wal_autocheckpoint = {FOLDED_AT}")
        connection.execute(f"PRAGMA cache_size = -{_CACHED_KIB}")
        prepare(connection)
    except (sqlite3.Error, LedgerUnavailableError) as error:
        connection.close()
        msg = f"the ledger {path} cannot be opened: {error}"
        raise LedgerUnavailableError(msg) from error
    return connection
