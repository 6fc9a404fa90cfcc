"""The writer thread's side of a PostgreSQL ledger: one transaction for everything that waits, in two round trips."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.ledger.books import FLUSH_AFTER, Books, claims_of, crowds, keys_of
from afmiddleware.ledger.claims import pack_claim, unanswered, unpack_claim
from afmiddleware.ledger.committer import CommitUnknownError
from afmiddleware.ledger.orders import changed_keys
from afmiddleware.ledger.postgres_server import connect, row_key, said
from afmiddleware.ledger.postgres_statements import Statements
from afmiddleware.ledger.postgres_sweep import sweep
from afmiddleware.ledger.reach import keys_of_hold, lacks
from afmiddleware.ledger.room import MOST_ROWS, count_rows, tally
from afmiddleware.ledger.stored import (
    api_key_row,
    check_known,
    check_tail,
    revocation_row,
    signer_of,
    unpack_api_key,
    without,
)
from afmiddleware.limits.rows import pack, unpack_hold, unpack_row
from afmiddleware.limits.slots import LEASE, RENEWED
from afmiddleware.model.entry import Expire
from afmiddleware.model.receipt import Seal
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.merkle import Frontier
from afmiddleware.receipts.notary import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.config.ledger_url import PostgresUrl
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.committer import Answer
    from afmiddleware.ledger.stored import Seen
    from afmiddleware.model.entry import Item, Record
    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.keys import ReceiptKeys

EXPIRED_AT_ONCE: Final = 100
_Found = psycopg.Cursor[tuple[Any, ...]]
ATTEMPTS: Final = 4
"""How often a transaction that the server rolled back, or that never began, is made anew before it is given up."""

_ROLLED_BACK = (errors.DeadlockDetected, errors.SerializationFailure)
_log = logging.getLogger("afmiddleware.ledger")


class PostgresWriter:
    """Makes transactions on one connection, in the thread that opened it.

    Every transaction first locks the one row that is the end of the log, so those of all processes and hosts follow one
    another; the database's clock is read under that lock, so time is one as well. `clock` (microseconds) stands in for
    it in tests.
    """

    def __init__(  # noqa: PLR0913 (what a writer is made of)
        self,
        url: PostgresUrl,
        keys: ReceiptKeys,
        draw: Callable[[int], bytes],
        anchors: Anchors | None,
        seen: Seen,
        clock: Callable[[], int] | None = None,
        read_signer: Callable[[bytes], Signer | None] = lambda _public: None,
        most: int = MOST_ROWS,
    ) -> None:
        self._url = url
        self._keys = keys
        self._draw = draw
        self._anchors = anchors
        self._note = ""
        self._seen = seen
        self._most = most
        self._clock = clock
        self._sql = Statements(url.schema)
        self._read_signer = read_signer
        self._signer = read_signer(b"")
        self._frontier = Frontier()
        self._settings = [f"{url.timeout * 1000}"] * 3
        self._connection = connect(url)
        seen.hold(draw)
        self._swept = b""
        self._check_tail()

    def _check_tail(self) -> None:
        connection = self._connection
        try:
            known = self._seen.head
            if known is not None:
                leaf = connection.execute(self._sql.leaf, (known.size,), binary=True).fetchone()
                check_known(leaf if leaf is None else (leaf[0],), known, self._url.name)
            found = connection.execute(self._sql.tail, binary=True).fetchone()
            check_tail(found if found is None else (found[0], found[1], found[2]), self._url.name)
        except (psycopg.Error, LedgerUnavailableError) as error:
            connection.close()
            told = said(error) if isinstance(error, psycopg.Error) else str(error)
            msg = f"the ledger {self._url.name} cannot be opened: {told}"
            raise LedgerUnavailableError(msg) from error

    def write(self, items: Sequence[Item]) -> list[Answer]:
        """Decide and store the items in one transaction.

        Raises `LedgerUnavailableError`, and then nothing is stored; or `CommitUnknownError`, when the connection was
        lost between COMMIT and its answer.
        """
        return self._transact(items, flush=False)

    def rest(self) -> None:
        """Keep up the lease of this process's slots, do what the deadlines of reservations say, and sweep."""
        try:
            told = self._connection.execute(self._sql.clock).fetchone()
            now = self._clock() if self._clock is not None else told[0] if told is not None else 0
            late = self._connection.execute(self._sql.due, (now, EXPIRED_AT_ONCE)).fetchall()
            if late or self._seen.turned_away:
                self._transact([Expire(name) for (name,) in late], flush=False)
            if self._seen.lease and self._seen.lease < now + LEASE - RENEWED:
                self._connection.execute(self._sql.put_lease, (self._seen.holder, now + LEASE))
                self._seen.lease = now + LEASE
            self._swept = sweep(self._connection, self._sql, self._swept, now, self._settings)
        except psycopg.Error as error:
            self._connection.close()
            msg = f"the ledger {self._url.name} did not commit: {said(error)}"
            raise LedgerUnavailableError(msg) from error

    def close(self, *, ending: bool) -> None:
        """Let go of the connection. When the process is `ending`, record what was only counted, and free its slots."""
        try:
            if ending and self._seen.turned_away and not self._connection.closed:
                self._transact((), flush=True)
            if ending and self._seen.lease and not self._connection.closed:
                self._connection.execute(self._sql.end_lease, (self._seen.holder,))
        except (AFError, psycopg.Error) as error:
            _log.warning("the last counts were not recorded: %s", error)
        finally:
            self._connection.close()

    def _transact(self, items: Sequence[Item], *, flush: bool) -> list[Answer]:
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                return self._once(items, flush=flush)
            except _ROLLED_BACK as error:
                if not left:
                    msg = f"the ledger {self._url.name} rolled back {ATTEMPTS} times: {said(error)}"
                    raise LedgerUnavailableError(msg) from error
            except psycopg.Error as error:
                if not left or not self._connection.closed:
                    # A server that fails may have become read-only: the next connection may find another.
                    self._connection.close()
                    msg = f"the ledger {self._url.name} did not commit: {said(error)}"
                    raise LedgerUnavailableError(msg) from error
                # The connection was lost before COMMIT was sent, as after a restart of the server: nothing was stored.
                self._connection = connect(self._url)
                self._check_tail()
        raise AssertionError  # pragma: no cover (the last attempt returns or raises)

    def _once(self, items: Sequence[Item], *, flush: bool) -> list[Answer]:
        connection = self._connection
        answers: list[Answer] = []
        asked = False
        try:
            with connection.pipeline() as pipeline:
                books = self._load(pipeline, items)
                answers += [books.perform(item) for item in items]
                if flush or books.now - books.turned_away_since > FLUSH_AFTER:
                    books.flush_turned_away()
                self._store(books)
                asked = True
                connection.execute("COMMIT")
        except BaseException as error:
            # A server that ends a session after its COMMIT, but before its answer is complete, says only that it ends.
            if not self._rolled_back() and asked and isinstance(error, psycopg.Error):
                connection.close()
                msg = f"the ledger {self._url.name} was lost during a commit: {said(error)}"
                raise CommitUnknownError(msg, answers) from error
            raise
        self._seen.head = books.head
        self._seen.turned_away = books.turned_away
        self._seen.turned_away_since = books.turned_away_since
        self._seen.lease = books.renewed or self._seen.lease
        if self._anchors is not None and books.written:
            self._anchors.due(books.head, self._note)
        return answers

    def _rolled_back(self) -> bool:
        """Whether the server still answers and says that no transaction is left."""
        with suppress(psycopg.Error):
            self._connection.execute("ROLLBACK")
            return True
        return False

    def _load(self, pipeline: psycopg.Pipeline, items: Sequence[Item]) -> Books:
        connection, statements = self._connection, self._sql
        keys, holds = keys_of(items)
        names = {row_key(key): key for key in keys}
        wanted, ids = sorted(names), sorted(holds)
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        connection.execute(statements.settings, self._settings)
        end = connection.execute(statements.head)
        clock = connection.execute(statements.clock)
        held = connection.execute(statements.holds, (ids,), binary=True) if ids else None
        rows = connection.execute(statements.rows, (wanted, ids), binary=True)
        claims = claims_of(items)
        claimed = connection.execute(statements.claims, (claims,), binary=True) if claims else None
        leases = connection.execute(statements.leases) if self._seen.lease or crowds(items) else None
        # Leaving the pipeline here would end with a flush request, after which the server no longer counts how long a
        # peer that hangs keeps its locks.
        pipeline.sync()
        found = end.fetchone()
        told = clock.fetchone()
        if found is None or told is None:
            msg = f"the ledger {self._url.name} has no log: its tables were emptied"
            raise LedgerUnavailableError(msg)
        *known, frontier, public = found
        head = self._checked(Head(*known))
        self._frontier = Frontier.unpack(head.size, frontier)
        books = Books(head, self._keys, self._draw)
        self._signer = signer_of(public, self._signer, self._read_signer, self._url.name)
        if self._signer is not None:
            books.seal = Seal()
        books.now = self._clock() if self._clock is not None else told[0]
        if self._seen.steady is not None:
            self._seen.steady.check(books.now)
        books.turned_away = dict(self._seen.turned_away)
        books.turned_away_since = self._seen.turned_away_since
        self._take(books, names, held, rows, claimed)
        refunded, more = lacks(books.holds, holds, claims)
        if refunded or more:
            held = connection.execute(statements.holds, (refunded,), binary=True)
            rows = connection.execute(statements.rows, ([], refunded), binary=True)
            claimed = connection.execute(statements.claims, (more,), binary=True)
            pipeline.sync()
            self._take(books, names, held, rows, claimed)
        for key_id in changed_keys(items):
            for (data,) in connection.execute(statements.api_key, (key_id,), binary=True):
                books.api_keys[key_id] = unpack_api_key(data)
        if leases is not None:
            books.lease(self._seen.holder, self._seen.lease, dict(leases.fetchall()))
        count_rows(books, self._most)
        return books

    @staticmethod
    def _take(
        books: Books,
        names: dict[bytes, str],
        held: _Found | None,
        rows: _Found,
        claimed: _Found | None,
    ) -> None:
        """Put what was found into the books. `names` are the keys of the rows by how they are stored."""
        for name, data in held.fetchall() if held is not None else ():
            hold = books.holds[name] = unpack_hold(data)
            names.update((row_key(key), key) for key in keys_of_hold(hold))
        for stored, data in rows.fetchall():
            books.rows.setdefault(names[stored], unpack_row(data))
        for key, data in claimed.fetchall() if claimed is not None else ():
            books.claims[key] = unpack_claim(data)

    def _checked(self, head: Head) -> Head:
        known = self._seen.head
        if known is not None and (head.size < known.size or head.log != known.log):
            msg = (
                f"the log in {self._url.name} has {head.size} receipts, but {known.size} were acknowledged: it was "
                "replaced, or this server is a copy that had not caught up"
            )
            raise LedgerUnavailableError(msg)
        return head

    def _carry_out(self, record: Record, size: int) -> None:
        """Do what a record says was done."""
        connection, statements = self._connection, self._sql
        if record.api_key is not None:
            connection.execute(statements.put_api_key, api_key_row(record.api_key))
        if record.revocation is not None:
            connection.execute(statements.put_revocation, revocation_row(record.revocation))
        if record.new_key:
            connection.execute(statements.put_signer, (record.new_key,))
            connection.execute(statements.put_key, (record.new_key, size, record.proof))
        for seq in record.erase_in:
            found = connection.execute(statements.values, (seq,), binary=True).fetchone()
            packed, decision = found or (None, "")
            connection.execute(statements.put_values, (without(packed, record.erase), seq))
            self._forget_answer(decision)

    def _forget_answer(self, decision: str) -> None:
        """Delete the answer that is kept for whoever repeats the request of a decision: it may say the value too."""
        connection, statements = self._connection, self._sql
        hold = connection.execute(statements.holds, ([decision],), binary=True).fetchone()
        claim = unpack_hold(hold[1]).claim if hold is not None else None
        found = (
            connection.execute(statements.claims, ([claim[0]],), binary=True).fetchone() if claim is not None else None
        )
        if found is not None:
            key, claimed = found[0], unpack_claim(found[1])
            if unanswered(claimed, decision):
                connection.execute(statements.put_claim, (key, claimed.expires, pack_claim(claimed)))

    def _store(self, books: Books) -> None:
        connection, statements = self._connection, self._sql
        tally(books)
        changed = sorted((row_key(key), pack(books.rows[key])) for key in books.changed)
        if changed:
            connection.execute(statements.put_rows, _columns(changed))
        for name in sorted(books.changed_holds):
            hold = books.holds[name]
            keys = [row_key(key) for key in sorted(keys_of_hold(hold))]
            connection.execute(statements.put_hold, (name, hold.state, hold.created, hold.due, keys, pack(hold)))
        for key, one in sorted(books.changed_claims.items()):
            if one is None:
                connection.execute(statements.drop_claim, (key,))
            else:
                connection.execute(statements.put_claim, (key, one.expires, pack_claim(one)))
        if books.renewed:
            connection.execute(statements.put_lease, (books.holder, books.renewed))
        for text in sorted(books.texts.items()):
            connection.execute(statements.put_text, text)
        if books.written:
            head = books.head
            connection.execute(statements.put_receipts, _columns(books.columns()))
            leaves = [written.leaf for written in books.written]
            sealed = seal(head.log, self._frontier, leaves, self._signer, books.seal)
            self._note = sealed.note
            connection.execute(statements.put_head, (head.size, head.leaf, head.ts, sealed.frontier.pack()))
            if sealed.nodes:
                rows = [(node.level, node.index, node.hash) for node in sealed.nodes]
                connection.execute(statements.put_nodes, _columns(rows))
            if sealed.note:
                connection.execute(statements.put_checkpoint, (head.size, sealed.note))
            for record in books.records:
                self._carry_out(record, head.size)


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    """Rows turned into the arrays that `unnest` reads."""
    return [list(column) for column in zip(*rows, strict=True)]
