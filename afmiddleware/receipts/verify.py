"""Checking a log of receipts: is every receipt what was written, by whom, and are all of them there.

The three questions are answered apart. Integrity: every body is canonical, every leaf, link and commitment fits.
Authenticity: the HMACs are those of the log's key. Completeness: nothing is missing in the middle, per log and per
owner, and the tail reaches at least to the anchor, the mark kept outside the database. Without an anchor a cut tail
cannot be told, so the answer is never plainly "whole".
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.chain import NO_LEAF, VERSION, Head, commitment, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from afmiddleware.model.receipt import Receipt
    from afmiddleware.receipts.keys import ReceiptKeys

_PROGRESS_EVERY: Final = 1000
_EXIT: Final = {"whole": 0, "tampered": 3, "unanchored": 4}
_HEX_LEAF = re.compile(r"[0-9a-f]{64}")


class StoredReceipt(msgspec.Struct, frozen=True, gc=False):
    """A receipt as a ledger stores it, with the columns it is found by. Those must say what the body says."""

    receipt: Receipt
    columns: Mapping[str, str | int]


class Anchor(msgspec.Struct, frozen=True):
    """A mark outside the database: this log had `size` receipts, and the last one's leaf was `leaf`."""

    log: str
    size: int
    leaf: bytes

    def text(self) -> str:
        """The mark as one line of JSON."""
        return msgspec.json.encode({"log": self.log, "size": self.size, "leaf": self.leaf.hex()}).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a mark. Raises `ReceiptError` when it is none."""
        try:
            found = msgspec.json.decode(text.encode(), type=_AnchorText)
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            msg = f"not an anchor: {error}"
            raise ReceiptError(msg) from error
        if found.size < 1 or _HEX_LEAF.fullmatch(found.leaf) is None:
            msg = "not an anchor: size is a whole number from 1, leaf has 64 hexadecimal digits"
            raise ReceiptError(msg)
        return cls(found.log, found.size, bytes.fromhex(found.leaf))


class _AnchorText(msgspec.Struct, forbid_unknown_fields=True):
    log: str
    size: int
    leaf: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    `status` is `whole`, `tampered` or `unanchored`. `seq` is the first bad sequence number (0 when there is none),
    `code` the stable name of what is wrong with it and `reason` a sentence. `open` counts intents without an outcome,
    which is no fault: their money is still counted.
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

    @property
    def exit_code(self) -> int:
        """0 whole, 3 tampered, 4 whole as far as can be told, but nothing anchors the tail."""
        return _EXIT[self.status]

    def lines(self) -> list[str]:
        """The report for a person."""
        first = f"{self.status}: {self.checked} receipts of log {self.log}"
        if self.code:
            first = f"{self.status} at receipt {self.seq}: {self.reason} ({self.code})"
        return [
            first,
            f"  integrity     {self.integrity}",
            f"  authenticity  {self.authenticity}",
            f"  completeness  {self.completeness}",
            f"  open          {self.open} intents without an outcome yet",
        ]


class _FaultError(Exception):
    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


def verify(
    stored: Iterable[StoredReceipt],
    head: Head,
    keys: ReceiptKeys | None,
    anchor: Anchor | None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a log from its first receipt to `head`, stopping at the first fault.

    Without `keys` authenticity is not checked, and said so. Memory holds one leaf an owner and 32 bytes an open
    intent, nothing a receipt. `progress` is called with how many of how many receipts are done.
    """
    check = _Check(head, keys, anchor)
    try:
        for one in stored:
            if check.size >= head.size:
                # What came after the head was read is not part of this check.
                break
            check.receipt(one)
            if progress is not None and check.size % _PROGRESS_EVERY == 0:
                progress(check.size, head.size)
        check.end()
    except _FaultError as fault:
        return check.report(fault)
    return check.report(None)


class _Check:
    """A check under way."""

    def __init__(self, head: Head, keys: ReceiptKeys | None, anchor: Anchor | None) -> None:
        self.size = 0
        self._head = head
        self._keys = keys
        self._anchor = anchor
        self._leaf = NO_LEAF
        self._ts = 0
        self._owners: dict[str, tuple[int, str]] = {}
        self._open: set[str] = set()

    def receipt(self, one: StoredReceipt) -> None:
        """Check one receipt against those before it."""
        receipt = one.receipt
        seq = self.size + 1
        if receipt.seq != seq:
            code = "seq.gap" if receipt.seq > seq else "seq.duplicate"
            raise _FaultError(
                code, f"receipt {seq} is missing" if code == "seq.gap" else f"{receipt.seq} stands there again"
            )
        try:
            body = strict_parse(receipt.body)
        except ReceiptError as error:
            raise _FaultError("body.malformed", str(error)) from error
        leaf = leaf_hash(receipt.body)
        if leaf != receipt.leaf:
            raise _FaultError("leaf.mismatch", "the body is not the one that was hashed")
        self._mac(receipt)
        self._links(body, seq)
        self._owner(body, leaf)
        self._columns(body, one.columns)
        _disclosures(body, receipt)
        self._pair(body, leaf)
        if self._anchor is not None and self._anchor.size == seq and self._anchor.leaf != leaf:
            raise _FaultError("anchor.mismatch", "the anchor has seen another receipt here: the log was rewritten")
        self.size, self._leaf, self._ts = seq, leaf, body["ts"]

    def end(self) -> None:
        """Check that the log ends where it should."""
        head, anchor = self._head, self._anchor
        if anchor is not None and anchor.log != head.log:
            raise _FaultError("anchor.foreign", f"the anchor belongs to the log {anchor.log}")
        if anchor is not None and anchor.size > max(self.size, head.size):
            raise _FaultError("anchor.behind", f"the anchor has seen {anchor.size} receipts, the log has {self.size}")
        if self.size != head.size or self._leaf != head.leaf:
            raise _FaultError("head.mismatch", f"the log's head counts {head.size} receipts, {self.size} are there")

    def report(self, fault: _FaultError | None) -> Report:
        """What was found."""
        kept = "ok" if self._keys is not None else "not checked: the key is not at hand"
        if fault is None:
            status, completeness = "whole", f"ok, anchored up to receipt {self._anchor.size}" if self._anchor else ""
            if self._anchor is None:
                status, completeness = "unanchored", "tail unanchored: without an anchor a cut tail cannot be told"
            return Report(
                status=status,
                log=self._head.log,
                checked=self.size,
                open=len(self._open),
                authenticity=kept,
                completeness=completeness,
            )
        kind = fault.code.partition(".")[0]
        return Report(
            status="tampered",
            log=self._head.log,
            checked=self.size,
            open=len(self._open),
            seq=self.size + 1,
            code=fault.code,
            reason=fault.reason,
            integrity="failed" if kind not in ("mac", "seq", "anchor", "head", "owner") else "ok up to there",
            authenticity="failed" if kind == "mac" else kept if self._keys is None else "ok up to there",
            completeness="failed" if kind in ("seq", "anchor", "head", "owner") else "unknown after the fault",
        )

    def _mac(self, receipt: Receipt) -> None:
        if not receipt.mac:
            raise _FaultError("mac.missing", "its HMAC was stripped")
        if self._keys is not None and not hmac.compare_digest(receipt.mac, self._keys.mac(receipt.leaf)):
            raise _FaultError("mac.mismatch", "its HMAC was not made with the log's key")

    def _links(self, body: dict[str, Any], seq: int) -> None:
        if body.get("v") != VERSION:
            raise _FaultError("body.version", f"version {body.get('v')} is not known")
        if body.get("log") != self._head.log:
            raise _FaultError("log.foreign", f"it belongs to the log {body.get('log')}")
        if body.get("seq") != seq:
            raise _FaultError("seq.mismatch", f"its body says it is receipt {body.get('seq')}")
        if body.get("prev") != self._leaf.hex():
            raise _FaultError("prev.mismatch", "it does not follow the receipt before it")
        ts = body.get("ts")
        if type(ts) is not int or ts < self._ts:
            raise _FaultError("ts.backwards", "its time is before that of the receipt before it")
        if self._keys is not None and body.get("kid") != self._keys.kid:
            raise _FaultError("mac.foreign", f"it names the key {body.get('kid')}")

    def _owner(self, body: dict[str, Any], leaf: bytes) -> None:
        owner = body.get("owner")
        oseq, previous = self._owners.get(str(owner), (0, NO_LEAF.hex()))
        if body.get("oseq") != oseq + 1:
            raise _FaultError("owner.gap", f"its owner's receipt {oseq + 1} is missing")
        if body.get("oprev") != previous:
            raise _FaultError("owner.prev", "it does not follow its owner's receipt before it")
        self._owners[str(owner)] = (oseq + 1, leaf.hex())

    def _columns(self, body: dict[str, Any], columns: Mapping[str, str | int]) -> None:
        for column, member in _COLUMNS:
            if columns[column] != body.get(member, ""):
                raise _FaultError("column.mismatch", f"the ledger's column {column} says {columns[column]!r}")

    def _pair(self, body: dict[str, Any], leaf: bytes) -> None:
        if body.get("kind") == "intent":
            self._open.add(leaf.hex())
        elif body.get("kind") == "outcome":
            intent = str(body.get("ref"))
            if intent not in self._open:
                raise _FaultError("outcome.orphan", "it ends an intent that is not there, or that has ended before")
            self._open.remove(intent)


_COLUMNS: Final = (
    ("kind", "kind"),
    ("decision", "id"),
    ("capability", "capability"),
    ("verdict", "verdict"),
    ("code", "code"),
    ("ts", "ts"),
)


def _disclosures(body: dict[str, Any], receipt: Receipt) -> None:
    """Every commitment has its value beside it, and every value is the one committed to."""
    commitments = body.get("c", {})
    if not isinstance(commitments, dict):
        raise _FaultError("body.malformed", "its commitments are no object")
    for name, (salt, value) in receipt.disclosed.items():
        if commitments.get(name) != commitment(name, salt, value):
            raise _FaultError("disclosure.mismatch", f"the value of {name} beside it is not the one that was recorded")
    missing = commitments.keys() - receipt.disclosed.keys()
    if missing:
        raise _FaultError("disclosure.missing", f"the value of {min(missing)} was removed without a record of it")
