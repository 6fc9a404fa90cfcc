"""Reading an export back into a ledger of its own: an archive, to be read and verified, and never to be continued.

An export is verified before anything is written, line by line, by the stand-alone verifier; what is written is made
apart and put in its place whole, so that a bad line leaves nothing behind. Memory holds one batch, whatever the size.
"""

from __future__ import annotations

import hashlib
from hmac import compare_digest
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts import standalone
from afmiddleware.receipts.bundle import Header, read_export, read_keys
from afmiddleware.receipts.checkpoint import parse
from afmiddleware.receipts.merkle import HASH, Frontier, extend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from afmiddleware.model.receipt import Receipt
    from afmiddleware.receipts.keys import ReceiptKeys
    from afmiddleware.receipts.merkle import Node
    from afmiddleware.receipts.notary import SigningKey

BATCH: Final = 500
_pack = msgspec.msgpack.Encoder().encode
ReceiptRow = tuple[int, bytes, bytes, bytes, str, str, str, str, str, int, bytes | None]


class Archived(msgspec.Struct, frozen=True):
    """What an import has made: which log, and how many receipts of it."""

    log: str
    size: int


class End(msgspec.Struct, frozen=True):
    """The end of an imported log: what a head holds, and the keys."""

    log: str
    size: int
    leaf: bytes
    ts: int
    frontier: bytes
    keys: Sequence[SigningKey]


class Shelf(Protocol):
    """A ledger that is being made. It is in its place after `finish`, and gone after `drop`."""

    def put(self, receipts: list[ReceiptRow], nodes: list[Node], notes: list[tuple[int, str]]) -> None:
        """Store a batch."""
        ...

    def finish(self, end: End) -> None:
        """Store the end of the log, and put the ledger in its place."""
        ...

    def drop(self) -> None:
        """Take away what was made."""
        ...


def import_export(
    file: IO[bytes],
    open_shelf: Callable[[], Shelf],
    trusted: Sequence[bytes],
    progress: Callable[[int], None] = lambda _done: None,
    keys: ReceiptKeys | None = None,
) -> Archived:
    """Read the export of a whole log, signed by a key among `trusted`, into a new ledger.

    `file` can be read twice; `progress` is called with the bytes that are done, twice as many as it has. Without the
    `keys` of the log its HMACs are kept as they stand. Raises `ReceiptError`, naming the line and the reason, and then
    there is no ledger.
    """
    lines = _Lines(file, progress)
    try:
        found = standalone.verify(cast("IO[bytes]", lines), list(trusted))
    except (standalone.TamperedError, standalone.UnreadableError) as error:
        msg = f"line {lines.number}: {error}; nothing was imported"
        raise ReceiptError(msg) from error
    if "owner" not in found or found["owner"]:
        msg = "line 1: only an export of a whole log can be imported; check this one with: afmiddleware receipts check"
        raise ReceiptError(msg)
    file.seek(0)
    again = _Lines(file, progress, lines.done)
    shelf = open_shelf()
    try:
        end = _write(again, shelf, keys)
        again.same_as(lines)
        shelf.finish(end)
    except BaseException:
        shelf.drop()
        raise
    return Archived(end.log, end.size)


class _Lines:
    """The lines of a file, counted and hashed on their way."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None], done: int = 0) -> None:
        self._file = file
        self._progress = progress
        self._hash = hashlib.sha256()
        self.done = done
        self.number = 0

    def readline(self, limit: int) -> bytes:
        data = self._file.readline(limit)
        self._hash.update(data)
        self.done += len(data)
        if data:
            self.number += 1
        if not self.number % BATCH:
            self._progress(self.done)
        return data

    def read(self, limit: int) -> bytes:
        return self.readline(limit)

    def __iter__(self) -> Iterator[bytes]:
        while data := self.readline(standalone.MAX_LINE):
            yield data

    def same_as(self, other: _Lines) -> None:
        """Raises `ReceiptError` when these were other lines."""
        if self._hash.digest() != other._hash.digest():
            msg = "the file was changed while it was read; nothing was imported"
            raise ReceiptError(msg)


class _Found(msgspec.Struct, frozen=True):
    """What a receipt can be found by."""

    kind: str
    ts: int
    id: str = ""
    capability: str = ""
    verdict: str = ""
    code: str = ""


_found = msgspec.json.Decoder(_Found).decode


def _write(lines: _Lines, shelf: Shelf, secret: ReceiptKeys | None) -> End:
    parts = read_export(lines)
    header = next(parts)
    if not isinstance(header, Header):
        msg = "line 1: the export has no header"
        raise ReceiptError(msg)
    keys, tree = read_keys(header), Frontier()
    receipts: list[Receipt] = []
    rows: list[ReceiptRow] = []
    notes: list[tuple[int, str]] = []
    leaf, ts, covered = b"", 0, 0

    def flush() -> None:
        nonlocal tree
        tree, nodes = extend(tree, [one.leaf for one in receipts])
        shelf.put(rows, nodes, notes)
        receipts.clear()
        rows.clear()
        notes.clear()

    for part in parts:
        if isinstance(part, str):
            covered = _after(covered, part, lines.number)
            notes.append((covered, part))
        elif not isinstance(part, Header):
            row = _row(part, lines.number, secret)
            rows.append(row)
            receipts.append(part)
            leaf, ts = part.leaf, row[9]
        if len(rows) + len(notes) >= BATCH:
            flush()
    flush()
    if covered != tree.size:
        msg = f"line {lines.number}: the checkpoint of all {tree.size} receipts is not there; nothing was imported"
        raise ReceiptError(msg)
    return End(header.log, tree.size, leaf, ts, tree.pack(), keys)


def _after(covered: int, note: str, number: int) -> int:
    """How many receipts a note covers, more than the one before it."""
    size = parse(note).checkpoint.size
    if size <= covered:
        msg = f"line {number}: the checkpoint of {size} receipts stands there again; nothing was imported"
        raise ReceiptError(msg)
    return size


def _row(receipt: Receipt, number: int, keys: ReceiptKeys | None) -> ReceiptRow:
    try:
        found = _found(receipt.body)
    except msgspec.MsgspecError as error:
        msg = f"line {number}: {error}; nothing was imported"
        raise ReceiptError(msg) from error
    if len(receipt.mac) != HASH or not any(receipt.mac):
        msg = f"line {number}: the receipt has no HMAC: this is not an operator's own export; nothing was imported"
        raise ReceiptError(msg)
    if keys is not None and not compare_digest(receipt.mac, keys.mac(receipt.leaf)):
        msg = f"line {number}: its HMAC was not made with the log's key; nothing was imported"
        raise ReceiptError(msg)
    disclosed = _pack(receipt.disclosed) if receipt.disclosed else None
    told = (found.kind, found.id, found.capability, found.verdict, found.code, found.ts)
    return (receipt.seq, receipt.body, receipt.leaf, receipt.mac, *told, disclosed)
