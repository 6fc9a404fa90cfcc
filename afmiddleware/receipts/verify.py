"""Checking a log of receipts: is every receipt what was written, by whom, and are all of them there.

The three questions are answered apart. Integrity: every body is canonical, every leaf, link and commitment fits.
Authenticity: the HMACs are those of the log's key. Completeness: nothing is missing in the middle, per log and per
owner, and the tail reaches at least to the anchor, the mark kept outside the database. Without an anchor a cut tail
cannot be told, so the answer is never plainly "whole".
"""

from __future__ import annotations

from hmac import compare_digest
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import DecisionBody, OutcomeBody
from afmiddleware.receipts.bodies import FaultError, Plain, Read, missing_of, read_body, shown
from afmiddleware.receipts.chain import NO_LEAF, Head, leaf_hash
from afmiddleware.receipts.seals import SealCheck, SealFaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from afmiddleware.model.receipt import Receipt
    from afmiddleware.receipts.anchor import Anchor
    from afmiddleware.receipts.keys import ReceiptKeys
    from afmiddleware.receipts.seals import Had, Seals

_PROGRESS_EVERY: Final = 1000
_EXIT: Final = {"whole": 0, "tampered": 3, "unanchored": 4, "unauthenticated": 5}
_AUTHENTICITY: Final = frozenset({"mac", "checkpoint", "signer"})
_COMPLETENESS: Final = frozenset({"seq", "anchor", "head", "owner"})
_OPENS: Final = frozenset({"intent", "carried"})  # carried over from the log before
_NOT_INTEGRITY: Final = _AUTHENTICITY | _COMPLETENESS


class StoredReceipt(msgspec.Struct, frozen=True, gc=False):
    """A receipt as a ledger stores it, with the columns it is found by. Those must say what the body says."""

    receipt: Receipt
    columns: Mapping[str, str | int]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    `status` is `whole`, `tampered`, `unanchored`, or `unauthenticated` where neither the log's key nor a public key
    that is known was at hand. `seq` is the first bad sequence number (0 when there is none),
    `code` the stable name of what is wrong with it and `reason` a sentence. `open` counts intents without an outcome,
    which is no fault: their money is still counted. `signed` is how many receipts the last signed checkpoint covers,
    `evidence` two checkpoints that contradict each other.
    """

    status: str
    log: str
    checked: int
    open: int = 0
    seq: int = 0
    code: str = ""
    reason: str = ""
    integrity: str = "ok"
    authenticity: str = "ok"
    completeness: str = "ok"
    signed: int = 0
    evidence: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 whole, 3 tampered, 4 nothing anchors the tail, 5 nothing tells who wrote it; those two may be whole."""
        return _EXIT[self.status]

    def lines(self) -> list[str]:
        """The report for a person."""
        first = f"{self.status}: {self.checked} receipt{'' if self.checked == 1 else 's'} of log {self.log}"
        if self.code:
            first = f"{self.status} at receipt {self.seq}: {self.reason} ({self.code})"
        return [
            first,
            f"  integrity     {self.integrity}",
            f"  authenticity  {self.authenticity}",
            f"  signed        {f'up to receipt {self.signed}' if self.signed else 'no'}",
            f"  completeness  {self.completeness}",
            f"  open          {self.open} intent{'' if self.open == 1 else 's'} without an outcome yet",
        ]


def verify(  # noqa: PLR0913 (what a log is checked against)
    stored: Iterable[StoredReceipt],
    head: Head,
    keys: ReceiptKeys | None,
    anchor: Anchor | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    head_now: Callable[[], Head] | None = None,
    seals: Seals | None = None,
    had: Sequence[Had] = (),
) -> Report:
    """Check a log from its first receipt to its last, stopping at the first fault.

    With `seals` the tree and the signed checkpoints are checked too; `had` is what others hold of the log.
    `head` is read before `stored`. Receipts after it are checked too, and are a fault unless `head_now`, which reads
    the head again, counts them: the log of a running server grows. A `ReceiptError` of `stored` means that
    the next receipt is there and cannot be read. Without `keys` authenticity is not checked, and
    said so. Memory holds some 200 bytes an owner and as many an open intent or a receipt with a
    redacted value, nothing for others. `progress` is called
    with how many of how many receipts are done.
    """
    check = _Check(head, keys, anchor, seals, had)
    try:
        check.begin()
        for one in stored:
            check.receipt(one)
            if progress is not None and check.size % _PROGRESS_EVERY == 0:
                progress(check.size, head.size)
        check.end(head_now)
    except ReceiptError as error:
        return check.report(FaultError("row.unreadable", str(error)))
    except SealFaultError as fault:
        return check.report(FaultError(fault.code, fault.reason, fault.seq), fault.evidence)
    except FaultError as fault:
        return check.report(fault)
    return check.report(None)


class _Check:
    """A check under way."""

    def __init__(
        self,
        head: Head,
        keys: ReceiptKeys | None,
        anchor: Anchor | None,
        seals: Seals | None,
        had: Sequence[Had],
    ) -> None:
        self.size = 0
        self._seals = SealCheck(head.log, seals, had) if seals is not None else None
        self._signed = 0
        self._known = seals is not None and bool(seals.trusted)
        self._had = {one.seq: one for one in had}
        self._reach = max([one.seq for one in had], default=0)
        self._foreign = any(one.log != head.log for one in had)
        self._head = head
        self._keys = keys
        self._anchor = anchor
        self._marked = {head.size, anchor.size if anchor is not None else 0, *self._had}
        self._prev = NO_LEAF.hex()
        self._ts = self._ts_at_head = 0
        self._owners: dict[str, tuple[int, str]] = {}
        self._open: set[str] = set()
        self._missing: dict[int, set[str]] = {}

    def begin(self) -> None:
        """Check that the anchor and the keys are those of this log."""
        anchor = self._anchor
        if self._foreign:
            raise FaultError("anchor.foreign", "a receipt that was brought along belongs to another log")
        if self._seals is not None:
            self._seals.begin()
        if anchor is not None and anchor.log != self._head.log:
            raise FaultError("anchor.foreign", f"the anchor belongs to the log {shown(anchor.log)}")

    def receipt(self, one: StoredReceipt) -> None:
        """Check one receipt against those before it."""
        receipt, columns, keys, seq = one.receipt, one.columns, self._keys, self.size + 1
        if receipt.seq != seq:
            raise _misplaced(receipt.seq, seq)
        leaf = leaf_hash(receipt.body)
        if leaf != receipt.leaf:
            raise FaultError("leaf.mismatch", "the body is not the one that was hashed")
        if not receipt.mac:
            raise FaultError("mac.missing", "its HMAC was stripped")
        if keys is not None and not compare_digest(receipt.mac, keys.mac(leaf)):
            raise FaultError("mac.mismatch", "its HMAC was not made with the log's key")
        body, name = read_body(receipt.body, columns.get("kind")), leaf.hex()
        if body.prev != self._prev or body.seq != seq or body.ts < self._ts or body.log != self._head.log:
            raise self._unlinked(body, seq)
        if keys is not None and body.kid != keys.kid:
            raise FaultError("mac.foreign", f"it names the key {shown(body.kid)}")
        self._owner(body, name)
        _columns(body, columns)
        missing = missing_of(body, receipt)
        if missing or body.kind == "redaction":
            self._redacted(body, seq, missing)
        if body.kind != "refusal":
            self._pair(body, name)
        if seq in self._marked:
            self._marks(seq, leaf, body.ts)
        if self._seals is not None:
            if body.kind == "rotation" and isinstance(body, Plain):
                self._seals.rotation(seq, body.new_key)
            self._seals.leaf(seq, leaf)
        self.size, self._prev, self._ts = seq, name, body.ts

    def end(self, head_now: Callable[[], Head] | None) -> None:
        """Check that the log ends where it should."""
        head, anchor = self._head, self._anchor
        if self._missing:
            seq, names = min(self._missing.items())
            told = f"the value of {shown(min(names))} was removed without a record of it"
            raise FaultError("disclosure.missing", told, seq)
        if anchor is not None and anchor.size > max(self.size, head.size):
            raise FaultError("anchor.behind", f"the anchor has seen {anchor.size} receipts, the log has {self.size}")
        if self._reach > max(self.size, head.size):
            raise FaultError("anchor.behind", f"a receipt {self._reach} was given out, the log has {self.size}")
        if self.size < head.size:
            raise FaultError("head.mismatch", f"the log's head counts {head.size} receipts, {self.size} are there")
        if not head.size and head.leaf != NO_LEAF:
            raise FaultError("head.mismatch", "the log's head names a receipt, and counts none")
        if head.ts != self._ts_at_head:
            raise FaultError("head.mismatch", "the log's head has another time than its last receipt", head.size)
        now = head_now() if head_now is not None else head
        if self._seals is not None:
            self._signed = self._seals.end(self.size, head.size, max(now.size, self.size))
        if anchor is not None and anchor.checkpoint and self._signed < anchor.size:
            told = f"the anchor holds the signature over {anchor.size} receipts, the log has none over so many"
            raise FaultError("checkpoint.missing", told, anchor.size)
        if self.size > head.size and (now.log != head.log or now.size < self.size):
            told = f"it stands after the end of the log: its head counts {now.size} receipts"
            raise FaultError("head.mismatch", told, now.size + 1)

    def report(self, fault: FaultError | None, evidence: tuple[str, ...] = ()) -> Report:
        """What was found."""
        kept = "ok" if self._keys is not None else "not checked: the key is not at hand"
        if self._keys is None and self._known and self._signed == self.size:
            kept = "ok, signed by a key you know"
        if fault is None:
            reach = max(self._anchor.size if self._anchor is not None else 0, self._reach)
            status, completeness = "whole", f"ok, anchored up to receipt {reach}"
            if not reach:
                status, completeness = "unanchored", "tail unanchored: without an anchor a cut tail cannot be told"
            if not kept.startswith("ok"):
                status = "unauthenticated"
            return Report(
                status=status,
                log=self._head.log,
                checked=self.size,
                open=len(self._open),
                authenticity=kept,
                completeness=completeness,
                signed=self._signed,
            )
        kind = fault.code.partition(".")[0]
        return Report(
            status="tampered",
            log=self._head.log,
            checked=self.size,
            open=len(self._open),
            seq=fault.seq or self.size + 1,
            code=fault.code,
            reason=fault.reason,
            integrity="failed" if kind not in _NOT_INTEGRITY else "ok up to there",
            authenticity="failed" if kind in _AUTHENTICITY else kept if self._keys is None else "ok up to there",
            completeness="failed" if kind in _COMPLETENESS else "unknown after the fault",
            evidence=evidence,
        )

    def _unlinked(self, body: Read, seq: int) -> FaultError:
        """What is wrong with the place that a body gives itself."""
        if body.log != self._head.log:
            return FaultError("log.foreign", f"it belongs to the log {shown(body.log)}")
        if body.seq != seq:
            return FaultError("seq.mismatch", f"its body says it is receipt {body.seq}")
        if body.prev != self._prev:
            return FaultError("prev.mismatch", "it does not follow the receipt before it")
        return FaultError("ts.backwards", "its time is before that of the receipt before it")

    def _owner(self, body: Read, leaf: str) -> None:
        oseq, previous = self._owners.get(body.owner, _FIRST)
        if body.oseq != oseq + 1:
            raise FaultError("owner.gap", f"its owner's receipt {oseq + 1} is missing")
        if body.oprev != previous:
            raise FaultError("owner.prev", "it does not follow its owner's receipt before it")
        self._owners[body.owner] = (oseq + 1, leaf)

    def _redacted(self, body: Read, seq: int, missing: Collection[str]) -> None:
        """Values that are missing were redacted when a later record says so."""
        if missing:
            self._missing[seq] = {*missing}
        if body.kind == "redaction" and isinstance(body, Plain):
            for one in body.seqs:
                left = self._missing.pop(one, set()) - set(body.fields)
                if left:
                    self._missing[one] = left

    def _pair(self, body: Read, leaf: str) -> None:
        if body.kind in _OPENS:
            self._open.add(leaf)
        elif body.kind == "outcome" and not isinstance(body, DecisionBody):
            if body.ref not in self._open:
                raise FaultError("outcome.orphan", "it ends an intent that is not there, or that has ended before")
            self._open.remove(body.ref)

    def _marks(self, seq: int, leaf: bytes, ts: int) -> None:
        """Compare what the anchor and the head say of this receipt."""
        head, anchor = self._head, self._anchor
        if anchor is not None and anchor.size == seq and anchor.leaf != leaf:
            raise FaultError("anchor.mismatch", "the anchor has seen another receipt here: the log was rewritten")
        seen = self._had.get(seq)
        if seen is not None and seen.leaf != leaf:
            raise FaultError("anchor.mismatch", "another receipt was given out here: the log was rewritten")
        if head.size == seq:
            if head.leaf != leaf:
                raise FaultError("head.mismatch", "the log's head names another receipt as the last")
            self._ts_at_head = ts


def _misplaced(found: int, seq: int) -> FaultError:
    if found > seq:
        return FaultError("seq.gap", f"receipt {seq} is missing")
    return FaultError("seq.duplicate", f"{found} stands there again")


def _columns(body: Read, columns: Mapping[str, str | int]) -> None:
    verdict, code = ("", "") if isinstance(body, OutcomeBody) else (body.verdict, body.code)
    said = (body.kind, body.id, body.capability, verdict, code, body.ts)
    try:
        if _told(columns) == said:
            return
    except KeyError:
        pass
    for column, value in zip(_COLUMNS, said, strict=True):
        if columns.get(column) != value:
            found = shown(columns.get(column))
            raise FaultError("column.mismatch", f"the ledger's column {column} says {found}, its body does not")


_COLUMNS: Final = ("kind", "decision", "capability", "verdict", "code", "ts")
_told = itemgetter(*_COLUMNS)
_FIRST: Final = (0, NO_LEAF.hex())
