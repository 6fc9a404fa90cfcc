"""The high-water mark of a receipt log, kept in a file outside the database.

Signatures inside a database do not tell when its tail is cut off; a mark on another volume does. The file is replaced
whole, so a reader sees the old mark or the new one.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.verify import Anchor

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.receipts.chain import Head

_log = logging.getLogger("afmiddleware.ledger")


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
