"""The ledger in memory: one process, for tests, demonstrations and benchmarks. It decides inline, under one lock."""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import AFError, LedgerError, LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.books import FLUSH_AFTER, Books
from afmiddleware.ledger.claims import REFERENCE, USED, unanswered
from afmiddleware.ledger.kept import text_of
from afmiddleware.ledger.memory_cold import WARM, cool, forgettable_keys
from afmiddleware.ledger.memory_tree import MemoryTree
from afmiddleware.ledger.room import SPARE, Room, is_strangers
from afmiddleware.ledger.settling import EXPIRED
from afmiddleware.limits.rows import pack, unpack_row
from afmiddleware.model.entry import Closed, Entry, Expire, Once, Record
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.notary import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afmiddleware.identity.api_keys import ApiKeyRecord
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.limits.rows import Hold, Row
    from afmiddleware.model.entry import Held, Item
    from afmiddleware.model.policy_text import PolicyText
    from afmiddleware.model.revocation import Revocation
    from afmiddleware.receipts.chain import Written
    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.keys import ReceiptKeys
    from afmiddleware.receipts.merkle import Frontier
    from afmiddleware.receipts.verify import StoredReceipt

MAX_ROWS: Final = 200_000
KEPT_RECEIPTS: Final = 10_000
MAX_CLAIMS: Final = 10_000
MAX_USED: Final = 200_000
KEPT_DOUBTS: Final = 10_000
KEPT_TEXTS: Final = 64
_BATCH: Final = 64
_WRITE_AFTER: Final = 100_000
_SWEEP_EVERY: Final = 1_000_000
_ALWAYS: Final = 2**62


class MemoryLedger:
    """State that ends with the process. The last `kept` receipts can be read.

    At `max_rows` keys, rows whose windows are all over are forgotten; when none are, new keys are refused rather than
    a live counter dropped.
    """

    inline = True
    anchors: Anchors | None = None

    def __init__(  # noqa: PLR0913 (what a ledger is made of)
        self,
        keys: ReceiptKeys,
        clock: Callable[[], int],
        draw: Callable[[int], bytes],
        *,
        signer: Signer | None = None,
        max_rows: int = MAX_ROWS,
        kept: int = KEPT_RECEIPTS,
    ) -> None:
        self.keys = keys
        self._clock = clock
        self._books = Books(Head(f"afm-{draw(8).hex()}", 0, bytes(32), 0), keys, draw)
        # The only process there is: what it runs ends with it.
        self._books.leases = {self._books.holder: _ALWAYS}
        self._books.room = Room(most=max_rows)
        self._books.waits = True
        self._since = 0
        self._swept_at = 0
        self._used = 0
        self._references: dict[str, str] = {}
        self._kept: deque[Written] = deque(maxlen=kept)
        self._tree = MemoryTree(kept, signer)
        self._due: list[tuple[int, str]] = []
        self._doubts: deque[str] = deque()
        self._api_keys = self._books.api_keys
        self._revocations: dict[str, Revocation] = {}
        self._texts: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def commit(self, item: Item) -> Held | Closed:
        """Decide and book one item. Raises `LedgerUnavailableError` when there is no room for its keys."""
        with self._lock:
            books = self._books
            now = books.now = self._clock()
            if books.turned_away and now - books.turned_away_since > FLUSH_AFTER:
                books.flush_turned_away()
            if len(books.rows) > WARM or len(books.holds) > WARM:
                cool(books)
            books.room.rows = len(books.rows)
            self._make_room()
            while self._due and self._due[0][0] <= now:
                books.perform(Expire(heappop(self._due)[1]))
            answer = self._admit(item) if type(item) is Entry else self._perform(item)
            if books.changed_claims:
                self._keep_references(books)
                books.changed_claims.clear()
            if len(books.waiting) >= _BATCH or (books.waiting and now - self._since >= _WRITE_AFTER):
                books.catch_up()
            if len(books.written) >= _BATCH:
                self._keep()
            books.changed.clear()
        if isinstance(answer, AFError):
            raise answer
        return answer

    async def acommit(self, item: Item) -> Held | Closed:
        """Decide and book one item; it does no I/O, so it blocks nobody."""
        return self.commit(item)

    def post(self, item: Item) -> None:
        """Decide and book one item."""
        self.commit(item)

    def head(self) -> Head:
        """The end of the receipt log."""
        with self._lock:
            return self._whole().head

    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]:
        """The receipts that are kept, in order."""
        with self._lock:
            books = self._whole()
            kept = [books.stored(written) for written in self._kept]
        return (stored for stored in kept if matches(stored, wanted))

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Hashes of the log's tree: those of the receipts that are kept."""
        with self._lock:
            self._whole()
            return self._tree.nodes(level, first, count)

    def checkpoint(self) -> str:
        """A checkpoint of the whole log, signed now."""
        with self._lock:
            return self._tree.sign(self._whole().head.log)

    def checkpoints(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """The one checkpoint."""
        with self._lock:
            head = self._whole().head
            size, note = head.size, self._tree.sign(head.log)
        return iter([(size, note)] if note and size > after else [])

    def signing_keys(self) -> list[SigningKey]:
        """The public key of this process."""
        return [SigningKey(0, self._tree.public)]

    def frontier(self) -> Frontier:
        """The tree at the end of the log."""
        with self._lock:
            self._whole()
            return self._tree.grown()

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """Copies of the counters of `keys`."""
        with self._lock:
            rows = self._whole().rows
            return {key: unpack_row(pack(rows[key])) for key in keys if key in rows}

    def marked(self) -> Iterator[tuple[str, Row]]:
        """Copies of the rows that say more than counters do."""
        with self._lock:
            found = self._whole().rows.items()
            return iter([(key, unpack_row(pack(row))) for key, row in found if row.more is not None])

    def holds(self, state: str = "held", owner: str = "") -> Iterator[tuple[str, Hold]]:
        """Reservations in a state, of an `owner` or of all."""
        with self._lock:
            found = [(name, hold) for name, hold in self._books.holds.items() if hold.state == state]
        return (one for one in found if owner in ("", one[1].owner))

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """One API key's record."""
        return self._api_keys.get(key_id)

    def api_keys(self) -> list[ApiKeyRecord]:
        """Every API key's record, oldest first."""
        return sorted(self._api_keys.values(), key=lambda record: record.created)

    def revocations(self) -> list[Revocation]:
        """Every token that was taken back."""
        return list(self._revocations.values())

    def policy(self, beginning: str) -> PolicyText | None:
        """The text of a policy that decided."""
        with self._lock:
            return text_of(lambda by: [row for row in self._texts.items() if row[0].startswith(by)][:2], beginning)

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Store or replace a record."""
        self._api_keys[record.id] = record

    def close(self) -> None:
        """Nothing outlives the process."""

    def _admit(self, entry: Entry) -> Held | Closed | AFError:
        books = self._books
        if entry.claim is not None and self._keys_claimed() >= MAX_CLAIMS:
            self._forget_claims()
        answer = books.perform(entry)
        if entry.on_expiry is not None and entry.id in books.holds:
            heappush(self._due, (books.holds[entry.id].due, entry.id))
        # What begins cannot be forgotten yet.
        books.changed_holds.clear()
        return answer

    def _perform(self, item: Item) -> Held | Closed | AFError:
        """Book an item that is no entry, do what it says was done, and forget what it has ended."""
        books = self._books
        if type(item) is Record and item.new_key:
            msg = "a ledger in memory is signed by the key it began with; start anew with the other key"
            raise LedgerError(msg)
        if not books.waiting:
            self._since = books.now
        if type(item) is Once and self._used >= MAX_USED:
            self._forget_claims()
        answer = books.perform(item)
        done, books.records = books.records, []
        if type(item) is Once and item.key in books.changed_claims:
            self._used += 1
        if type(answer) is not Closed:
            return answer
        for record in done:
            self._carry_out(record)
        self._forget(books)
        return answer

    def _carry_out(self, record: Record) -> None:
        """Do what a record says was done."""
        books = self._books
        if record.revocation is not None:
            kept = {key: one for key, one in self._revocations.items() if one.until >= books.now}
            self._revocations = {**kept, record.revocation.key: record.revocation}
        if record.erase:
            self._keep()
            self._kept = deque(
                (one.without(record.erase) if one.seq in record.erase_in else one for one in self._kept),
                self._kept.maxlen,
            )
            redacted = {books.stored(one).columns["decision"] for one in self._kept if one.seq in record.erase_in}
            for claimed in books.claims.values():
                if claimed.hold in redacted:
                    unanswered(claimed, claimed.hold)

    def _whole(self) -> Books:
        """The books with all in the log that is to be in it, for whoever looks: what waits, and what was counted."""
        books, now = self._books, self._clock()
        if books.turned_away and now - books.turned_away_since > FLUSH_AFTER:
            books.now = now
            books.flush_turned_away()
        books.catch_up()
        self._keep()
        return books

    def _keep(self) -> None:
        """Keep the receipts that were written, to be read."""
        books = self._books
        self._kept += books.written
        self._tree.add([written.leaf for written in books.written])
        books.written.clear()

    def _forget(self, books: Books) -> None:
        """Drop the reservations that came to their end; of those in doubt the last `KEPT_DOUBTS` can be settled yet."""
        if books.texts:
            self._keep_texts(books)
        for name in books.changed_holds:
            hold = books.holds[name]
            if hold.state in ("unknown", EXPIRED):
                self._doubts.append(name)
                if hold.due:
                    heappush(self._due, (hold.due, name))
            elif hold.state != "held" and not hold.slots and not hold.referenced:
                del books.holds[name]
        while len(self._doubts) > KEPT_DOUBTS:
            # What is dropped stays counted.
            name = self._doubts.popleft()
            if name in books.holds and books.holds[name].state != "held":
                del books.holds[name]
        books.changed_holds.clear()

    def _keep_references(self, books: Books) -> None:
        """Let the last `KEPT_DOUBTS` references be found; what cannot be found any more stays counted."""
        for key, claimed in books.changed_claims.items():
            if claimed is not None and claimed.state == REFERENCE:
                self._references.setdefault(key, claimed.hold)
        while len(self._references) > KEPT_DOUBTS:
            key = next(iter(self._references))
            books.claims.pop(key, None)
            books.holds.pop(self._references.pop(key), None)

    def _keep_texts(self, books: Books) -> None:
        """Keep the texts of the last `KEPT_TEXTS` policies."""
        self._texts = {**books.texts, **self._texts}
        books.texts.clear()
        while len(self._texts) > KEPT_TEXTS:
            del self._texts[next(reversed(self._texts))]

    def _keys_claimed(self) -> int:
        return len(self._books.claims) - self._used - len(self._references)

    def _forget_claims(self) -> None:
        """Forget the keys whose time is over. Raises `LedgerUnavailableError` when none is: a key runs only once."""
        books = self._books
        for key in [key for key, claimed in books.claims.items() if claimed.expires <= books.now]:
            del books.claims[key]
        self._used = sum(claimed.state == USED for claimed in books.claims.values())
        self._references = {key: name for key, name in self._references.items() if key in books.claims}
        if self._keys_claimed() >= MAX_CLAIMS or self._used >= MAX_USED:
            msg = f"the ledger holds {MAX_CLAIMS} idempotency keys or {MAX_USED} proofs that were used, its most"
            raise LedgerUnavailableError(msg, retry_after=60)

    def _make_room(self) -> None:
        """Forget rows whose windows are over, when they become many; drop nothing that still counts."""
        room, rows, now = self._books.room, self._books.rows, self._books.now
        tight = room.rows >= room.most * 3 // 4 - SPARE or room.strangers * 2 >= room.most_strangers
        if tight and now - self._swept_at >= _SWEEP_EVERY:
            self._swept_at = now
            for key in forgettable_keys(rows, now):
                del rows[key]
            room.rows = len(rows)
            room.strangers = sum(is_strangers(key) for key in rows)


def matches(stored: StoredReceipt, wanted: Filter) -> bool:
    """Whether a receipt is among those wanted."""
    columns = stored.columns
    return (
        stored.receipt.seq > wanted.after
        and wanted.kind in ("", columns["kind"])
        and wanted.capability in ("", columns["capability"])
        and wanted.verdict in ("", columns["verdict"])
        and wanted.decision in ("", columns["decision"])
    )
