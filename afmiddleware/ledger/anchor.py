"""The high-water mark of a receipt log, kept outside the database.

Signatures inside a database do not tell when its tail is cut off; a mark on another volume does.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol

from afmiddleware.errors import AFError, ReceiptError
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.sqlite_file import Queue
from afmiddleware.receipts.anchor import Anchor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afmiddleware.receipts.chain import Head
    from afmiddleware.receipts.verify import StoredReceipt


GO_ON: Final = "go on after a loss with: afmiddleware receipts new-epoch"


class AnchorError(AFError):
    """A mark could not be written, or not be read back, at the moment. The text holds nothing that was received."""


class Readable(Protocol):
    """What of a ledger an anchor is compared with."""

    def head(self) -> Head: ...
    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]: ...


class Place(Protocol):
    """Somewhere outside the database. Several processes write to it, so it keeps the largest mark of a log."""

    name: str
    """What it is called in logs and errors: no password, no token."""

    readable: bool
    """Whether the last mark can be had back."""

    def put(self, mark: Anchor) -> None:
        """Keep a mark; may take seconds. Raises `AnchorError`."""
        ...

    def get(self) -> Anchor | None:
        """The last mark, `None` when there is none. Raises `AnchorError`, and `ReceiptError` for what is no mark."""
        ...


class AnchorFile:
    """A file, best on another volume. It is replaced whole, so a reader sees the old mark or the new one."""

    readable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def put(self, mark: Anchor) -> None:
        """Write the mark, unless the file already knows a later one of this log."""
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(Queue(self.path)) as queue, queue.turn():
                known = self.get()
                if known is not None and known.log == mark.log and known.size >= mark.size:
                    return
                with temporary.open("w", encoding="utf-8") as file:
                    file.write(mark.text() + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path)
        except OSError as error:
            raise AnchorError(error.strerror or type(error).__name__) from error
        except ReceiptError as error:
            raise AnchorError(str(error)) from error

    def get(self) -> Anchor | None:
        """The mark in the file."""
        return read_anchor(self.path)


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


def check_mark(mark: Anchor, name: str, ledger: Readable) -> None:
    """Raises `ReceiptError` when the log is not, or not all of, what the mark in the place `name` has seen."""
    head, place = ledger.head(), f"the anchor {name}"
    if mark.log != head.log:
        told = f"{place} has seen {mark.size} receipts of the log {mark.log}, this one holds {head.size} of {head.log}"
        msg = f"{told}: point them at each other again. If that log is lost, restore its newest copy; {GO_ON}"
        raise ReceiptError(msg)
    if mark.size > head.size:
        told = f"{place} has seen {mark.size} receipts, the ledger has {head.size}"
        msg = f"{told}: its tail was cut off, or it is an old copy. Restore the newest copy; {GO_ON}"
        raise ReceiptError(msg)
    found = next(iter(ledger.receipts(Filter(after=mark.size - 1))), None)
    if found is None or found.receipt.leaf != mark.leaf:
        msg = f"receipt {mark.size} in the ledger is not the one {place} has seen: the log was rewritten; {GO_ON}"
        raise ReceiptError(msg)
