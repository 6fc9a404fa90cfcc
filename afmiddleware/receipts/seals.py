"""Checking the seals of a log: that its tree, its checkpoints and its keys are those of its receipts."""

from __future__ import annotations

import re
from base64 import b64decode
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.checkpoint import Signed, key_id, key_name, parse, rotation_text, verifies
from afmiddleware.receipts.merkle import HASH, TILE, Frontier, extend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from afmiddleware.receipts.notary import SigningKey

_ROW: Final = 1 << TILE
_ITEM = re.compile(
    r'(?:^|, ?)(log="([!#-\[\]-~]+)"|(seq|size)=([0-9]{1,18})|(leaf|root|sig)=:([A-Za-z0-9+/]*={0,2}):'
    r"|batch=\([^()]*\))",
)


class SealFaultError(Exception):
    """What is wrong with a seal. `seq` is the number of receipts it covers; `evidence` are two notes that conflict."""

    def __init__(self, code: str, reason: str, seq: int, evidence: tuple[str, ...] = ()) -> None:
        self.code = code
        self.reason = reason
        self.seq = seq
        self.evidence = evidence
        super().__init__(reason)


class Had(msgspec.Struct, frozen=True):
    """What somebody outside has seen of a log: a receipt's leaf, and the root it was answered with (size 0: none)."""

    log: str
    seq: int
    leaf: bytes
    size: int = 0
    root: bytes = b""
    note: str = ""


class Seals(msgspec.Struct, frozen=True):
    """The seals of a log as stored.

    `frontier` is `None` when it cannot be read. `trusted` are public keys that the checker knows; without,
    any of the log's own are taken.
    """

    keys: Sequence[SigningKey]
    notes: Iterator[tuple[int, str]]
    frontier: Frontier | None
    nodes: Callable[[int, int, int], Sequence[bytes]]
    trusted: tuple[bytes, ...] = ()


class SealCheck:
    """A check under way: the tree grows with the receipts, and is compared where a seal stands."""

    def __init__(self, log: str, seals: Seals, had: Sequence[Had]) -> None:
        self._log = log
        self._seals = seals
        self._stored = seals.frontier or Frontier()
        self._tree = Frontier()
        self._waiting: list[bytes] = []
        self._notes = iter(seals.notes)
        self._note = next(self._notes, None)
        self._rotated = 1
        self._key = -1
        self._last = 0
        self._had: dict[int, Had] = {one.size: one for one in had if one.size}
        self._stop = self._next_stop()

    def begin(self) -> None:
        """Check that the keys follow one another from one that is trusted."""
        keys, trusted = self._seals.keys, self._seals.trusted
        if self._seals.frontier is None:
            raise SealFaultError(
                "tree.mismatch", "the stored tree is not one of as many receipts as the head counts", 0
            )
        if trusted and keys and not any(key.public in trusted for key in keys):
            raise SealFaultError("signer.foreign", f"the log is signed by {key_name(keys[-1].public)}, not by yours", 0)
        if trusted and not keys:
            raise SealFaultError("signer.missing", "the log names no key that signs it", 0)
        for old, new in pairwise(keys):
            if not verifies(old.public, new.proof, rotation_text(self._log, old.public, new.public)):
                told = f"the key {key_name(new.public)} was not appointed by the key before it"
                raise SealFaultError("signer.unproven", told, new.after)

    def leaf(self, seq: int, leaf: bytes) -> None:
        """Take the leaf of the next receipt."""
        self._waiting.append(leaf)
        if seq >= self._stop:
            self._compare(seq)

    def rotation(self, seq: int, new_key: str) -> None:
        """Take the record of a rotation: it names the next of the log's keys."""
        keys = self._seals.keys
        if self._rotated >= len(keys) or keys[self._rotated].public.hex() != new_key or keys[self._rotated].after < seq:
            raise SealFaultError("signer.unrecorded", "the key it appoints is not the one that signs after it", seq)
        self._rotated += 1

    def end(self, size: int, head: int, now: int) -> int:
        """Check the end of a log of `size` receipts: `head` were there when the check began, `now` at its end.

        Answers how many receipts the last checkpoint covers.
        """
        self._grow()
        keys = self._seals.keys
        if self._stored.size > size:
            raise SealFaultError("tree.mismatch", f"the tree has {self._stored.size} leaves", size)
        if self._rotated != max(len(keys), 1):
            raise SealFaultError("signer.unrecorded", "a key signs that no rotation record appoints", size)
        trusted = self._seals.trusted
        if trusted and self._last and not any(key.public in trusted for key in keys[: self._key + 1]):
            raise SealFaultError("signer.foreign", "its last checkpoint is signed by a key you do not know", self._last)
        if self._note is not None and self._note[0] > now:
            told = f"a checkpoint covers {self._note[0]} receipts, {size} are there"
            raise SealFaultError("checkpoint.ahead", told, size + 1)
        if keys and self._last < head and keys[0].after < head:
            raise SealFaultError("checkpoint.missing", "no checkpoint covers the last receipts", self._last + 1)
        return self._last

    def _compare(self, seq: int) -> None:
        self._grow()
        if self._stored.size == seq and self._stored != self._tree:
            raise SealFaultError("tree.mismatch", "the stored tree is not that of the receipts", seq)
        note = ""
        if self._note is not None and self._note[0] == seq:
            note = self._note[1]
            self._checkpoint(seq, note)
            self._note = next(self._notes, None)
        seen = self._had.get(seq)
        if seen is not None and seen.root != self._tree.root():
            told = f"somebody holds another root of these {seq} receipts: it was rewritten, or shown in two versions"
            raise SealFaultError("checkpoint.equivocation", told, seq, (seen.note, note))
        self._stop = self._next_stop()

    def _next_stop(self) -> int:
        size = self._tree.size
        stops = [size + _ROW - size % _ROW]
        stops += [one for one in (self._stored.size, *self._had) if one > size]
        if self._note is not None:
            stops.append(self._note[0])
        return min(stops)

    def _grow(self) -> None:
        self._tree, nodes = extend(self._tree, self._waiting)
        self._waiting.clear()
        for node in nodes:
            if list(self._seals.nodes(node.level, node.index, 1)) != [node.hash]:
                told = f"the stored node {node.index} of level {node.level} is not that of the receipts"
                raise SealFaultError("tree.mismatch", told, (node.index + 1) << node.level)

    def _checkpoint(self, size: int, note: str) -> None:
        try:
            signed = parse(note)
        except ReceiptError as error:
            raise SealFaultError("checkpoint.malformed", f"its checkpoint cannot be read: {error}", size) from error
        point = signed.checkpoint
        if point.origin != self._log:
            raise SealFaultError("checkpoint.foreign", "its checkpoint belongs to another log", size)
        self._signature(size, signed)
        if point.size != size or point.root != self._tree.root():
            raise SealFaultError("checkpoint.mismatch", "its checkpoint was signed over other receipts", size)
        self._last = size

    def _signature(self, size: int, signed: Signed) -> None:
        keys = self._seals.keys
        while self._key + 1 < len(keys) and keys[self._key + 1].after < size:
            self._key += 1
        if self._key < 0:
            raise SealFaultError("signer.missing", "the log names no key that signs its checkpoint", size)
        public = keys[self._key].public
        wanted, data = key_id(self._log, public), signed.text.encode()
        for name, kid, signature in signed.signatures:
            if name == self._log and kid == wanted and verifies(public, signature, data):
                return
        told = f"its checkpoint is not signed by the key of its time, {key_name(public)}"
        raise SealFaultError("checkpoint.unsigned", told, size)


def read_field(text: str) -> Had:
    """Read an `Agent-Receipt` header. Raises `ReceiptError`."""
    text = text.strip()
    if text.lower().startswith("agent-receipt:"):
        text = text.partition(":")[2].strip()
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            break
        name = "log" if item.group(2) else item.group(3) or item.group(5) or "batch"
        found[name] = item.group(2) or item.group(4) or item.group(6) or ""
        at = item.end()
    try:
        leaf, root = (b64decode(found.get(name, ""), validate=True) for name in ("leaf", "root"))
        had = Had(found["log"], int(found["seq"]), leaf, int(found.get("size", "0")), root)
    except (KeyError, ValueError) as error:
        msg = "not an Agent-Receipt header: log, seq and leaf are needed"
        raise ReceiptError(msg) from error
    if at != len(text) or len(had.leaf) != HASH or had.seq < 1 or (had.size and len(had.root) != HASH):
        msg = "not an Agent-Receipt header"
        raise ReceiptError(msg)
    return had
