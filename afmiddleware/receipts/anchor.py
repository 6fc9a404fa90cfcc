"""The mark of a log that is kept outside its database."""

from __future__ import annotations

import re
from typing import Self

import msgspec

from afmiddleware.errors import ReceiptError

_HEX_LEAF = re.compile(r"[0-9a-f]{64}")


class Anchor(msgspec.Struct, frozen=True):
    """A mark outside the database: this log had `size` receipts, and the last one's leaf was `leaf`.

    `checkpoint` is the signed note over them, where the log is signed.
    """

    log: str
    size: int
    leaf: bytes
    checkpoint: str = ""

    def text(self) -> str:
        """The mark as one line of JSON."""
        told = _AnchorText(self.log, self.size, self.leaf.hex(), self.checkpoint)
        return msgspec.json.encode(told).decode()

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
        return cls(found.log, found.size, bytes.fromhex(found.leaf), found.checkpoint)


class _AnchorText(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    log: str
    size: int
    leaf: str
    checkpoint: str = ""
