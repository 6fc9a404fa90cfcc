"""The high-water mark of a receipt log, kept in a file outside the database.

Signatures inside a database do not tell when its tail is cut off; a mark on another volume does. The file is replaced
whole, so a reader sees the old mark or the new one.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Protocol

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.anchor import Anchor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afmiddleware.receipts.chain import Head
    from afmiddleware.receipts.verify import StoredReceipt

_log = logging.getLogger("afmiddleware.ledger")


class Readable(Protocol):
    """What of a ledger an anchor is compared with."""

    def head(self) -> Head: ...
    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]: ...


class AnchorFile:
    """Writes the mark at most once in `every` microseconds, and at the end."""

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self._every = every
        self._written_at = 0

    def due(self, head: Head, now: int) -> None:
        """Write the mark when the last one is old enough."""
        if now - self._written_at >= self._every:
            self._written_at = now
            self.write(head)

    def write(self, head: Head) -> None:
        """Write the mark now, unless the file already knows a later one of this log. A fault is logged."""
        if not head.size:
            return
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            known = read_anchor(self.path)
            if known is not None and known.log == head.log and known.size >= head.size:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="ascii") as file:
                file.write(Anchor(head.log, head.size, head.leaf).text() + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except (OSError, ReceiptError) as error:
            _log.error("the anchor %s was not written: %s", self.path, error)


def read_anchor(path: Path) -> Anchor | None:
    """The mark in a file, `None` when there is no file. Raises `ReceiptError` when it is not readable."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the anchor {path} cannot be read: {error}"
        raise ReceiptError(msg) from error
    return Anchor.parse(text)


def check_anchor(anchor: AnchorFile, ledger: Readable) -> None:
    """Raises `ReceiptError` when the log is not, or not all of, what the anchor has seen."""
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
