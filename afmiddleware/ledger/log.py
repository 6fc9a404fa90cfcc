"""The receipts of a ledger as its users meet them: iterate, find, verify, prove, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.base import Filter
from afmiddleware.policy.replay import record_of
from afmiddleware.receipts import bundle
from afmiddleware.receipts.canonical import parse, strict_parse
from afmiddleware.receipts.checkpoint import parse as parse_note
from afmiddleware.receipts.merkle import Tiles, consistency, inclusion
from afmiddleware.receipts.record import WINDOW, counted_as, decided_at
from afmiddleware.receipts.seals import Seals
from afmiddleware.receipts.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.base import Reader
    from afmiddleware.policy.replay import Record
    from afmiddleware.receipts.anchor import Anchor
    from afmiddleware.receipts.keys import ReceiptKeys
    from afmiddleware.receipts.merkle import Frontier
    from afmiddleware.receipts.seals import Had
    from afmiddleware.receipts.verify import Report, StoredReceipt

RECENT = 1024
"""Among how many of the last receipts one is found by its leaf alone."""

_SOON = 6 * WINDOW


class ReceiptLog:
    """The receipts of a ledger.

    `keys` are those of their HMACs, where they are at hand, `anchors` the places outside it that have its mark.
    """

    def __init__(self, ledger: Reader, keys: ReceiptKeys | None = None, anchors: Anchors | None = None) -> None:
        self._ledger = ledger
        self._keys = keys
        self._anchors = anchors

    def __iter__(self) -> Iterator[StoredReceipt]:
        return self._ledger.receipts(Filter())

    def __len__(self) -> int:
        return self._ledger.head().size

    def find(self, wanted: Filter | None = None, *, actor: str = "") -> Iterator[StoredReceipt]:
        """The receipts that are wanted, of an actor (`key:my-agent`) or of all, in the order of the log.

        Raises `ReceiptError` for an actor without the log's key, `LedgerUnavailableError` for a fault of the store.
        """
        owner = self.pseudonym(actor) if actor else ""
        found = self._ledger.receipts(wanted or Filter())
        return (one for one in found if not owner or parse(one.receipt.body).get("owner") == owner)

    def at(self, seq: int) -> StoredReceipt | None:
        """The receipt with a sequence number."""
        one = next(iter(self._ledger.receipts(Filter(after=seq - 1))), None) if seq > 0 else None
        return one if one is not None and one.receipt.seq == seq else None

    def by_leaf(self, leaf: bytes, seq: int = 0) -> StoredReceipt | None:
        """The receipt with a leaf, when `seq` is its number; without, when it is among the last 1024."""
        if not seq:
            size = self._ledger.head().size
            first = max(size - RECENT, 0)
            recent = self._ledger.nodes(0, first, RECENT)
            if leaf not in recent:
                return None
            seq = first + recent.index(leaf) + 1
        one = self.at(seq)
        return one if one is not None and one.receipt.leaf == leaf else None

    def decision(self, decision: str) -> list[StoredReceipt]:
        """All receipts of one decision: what was decided, and how it ended."""
        return list(self._ledger.receipts(Filter(decision=decision))) if decision else []

    def counted(self, decision: str) -> list[StoredReceipt]:
        """The aggregates in which a decision without a receipt of its own is counted; one a process, as a rule one."""
        window = counted_as(decision)
        return list(self._ledger.receipts(Filter(decision=window))) if window else []

    def is_counted_soon(self, decision: str, now: int) -> bool:
        """Whether a decision is so young, at `now` in microseconds, that its aggregate may yet be written."""
        return abs(now - decided_at(decision)) < _SOON

    def pseudonym(self, owner: str) -> str:
        """The name an owner has in the log. Raises `ReceiptError` without the log's key."""
        if self._keys is None:
            msg = "the key of the receipts is not at hand, and with it not the names of their owners"
            raise ReceiptError(msg)
        return self._keys.pseudonym(owner)

    def verify(
        self,
        anchor: Anchor | None = None,
        *,
        trusted: tuple[bytes, ...] = (),
        had: Sequence[Had] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Check the whole log against `anchor`, or else against the newest mark in the log's own places.

        `trusted` are public keys it must be signed by, `had` what was given out. Raises `ReceiptError` for a mark that
        cannot be read where anchors are required.
        """
        ledger = self._ledger
        if anchor is None and self._anchors is not None:
            anchor = self._anchors.newest()
        head = ledger.head()
        try:
            frontier: Frontier | None = ledger.frontier()
        except ReceiptError:
            frontier = None
        # Also one that says it covers nothing, which no commit has made.
        seals = Seals(ledger.signing_keys(), ledger.checkpoints(-1), frontier, ledger.nodes, trusted)
        stored = ledger.receipts(Filter())
        return verify(stored, head, self._keys, anchor, progress, head_now=ledger.head, seals=seals, had=had)

    def prove(self, receipts: Sequence[StoredReceipt]) -> bundle.Proof:
        """Prove receipts against the last checkpoint. Raises `ReceiptError` when they cannot be."""
        ledger = self._ledger
        note = ledger.checkpoint()
        return bundle.prove([one.receipt for one in receipts], note, ledger.signing_keys(), Tiles(ledger.nodes).node)

    def grown(self, old: int, new: int) -> list[bytes]:
        """The proof that the log of `old` receipts is the beginning of that of `new` (RFC 6962 section 2.1.2)."""
        return consistency(old, new, Tiles(self._ledger.nodes).node)

    def export(self, owner: str = "") -> Iterator[bytes]:
        """The lines of an export: of the whole log, or of the owner with this pseudonym, with a path each.

        Raises `ReceiptError` when the log is not signed.
        """
        ledger = self._ledger
        note = ledger.checkpoint()
        if not note:
            msg = "the log is not signed, so nobody could check an export; make a key: afmiddleware keys new --receipts"
            raise ReceiptError(msg)
        point = parse_note(note).checkpoint
        keys = bundle.told_keys(point.origin, ledger.signing_keys())
        header = bundle.Header(bundle.EXPORT, point.origin, point.size, owner, note, keys)
        lines = self._of_owner(owner, point.size) if owner else self._whole(point.size)
        return bundle.export(header, lines, () if owner else ledger.checkpoints())

    def _whole(self, size: int) -> Iterator[bundle.Line]:
        for one in self._ledger.receipts(Filter()):
            if one.receipt.seq > size:
                return
            yield bundle.line(one.receipt, mac=True)

    def _of_owner(self, owner: str, size: int) -> Iterator[bundle.Line]:
        tiles = Tiles(self._ledger.nodes)
        for one in self._ledger.receipts(Filter()):
            receipt = one.receipt
            if receipt.seq > size:
                return
            if parse(receipt.body).get("owner") == owner:
                yield bundle.line(receipt, inclusion(receipt.seq - 1, size, tiles.node))


def records_in(stored: Iterable[StoredReceipt]) -> Iterator[Record]:
    """What was decided, by the receipts of a ledger."""
    for one in stored:
        record = record_of(strict_parse(one.receipt.body), one.receipt.disclosed)
        if record is not None:
            yield record
