"""The texts of the policies that decided, as every ledger keeps them: by digest, each once."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec

from afmiddleware.model.policy_text import PolicyText

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model.entry import InForce

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(PolicyText).decode


def rows_of(item: InForce) -> dict[str, bytes]:
    """What is to be kept of a policy that is put in force, by digest: its text, and whose text a policy has.

    The digest of a policy differs from that of its file where the application's code declares bindings too.
    """
    found = {}
    if item.text is not None:
        found[item.text.file] = zlib.compress(_pack(item.text))
    if item.file and item.policy != item.file:
        found[item.policy] = zlib.compress(_pack(PolicyText(item.file)))
    return found


def text_of(read: Callable[[str], Sequence[tuple[str, bytes]]], beginning: str) -> PolicyText | None:
    """The text of the one policy whose digest begins so, `None` where none or several do, or it was not kept.

    `read` gives up to two of the rows whose digest begins in a way.
    """
    found = read(beginning)
    if len(found) != 1:
        return None
    kept = _unpack(zlib.decompress(found[0][1]))
    if kept.text:
        return kept
    # One that only points at another is never pointed at.
    rows = read(kept.file)
    return _unpack(zlib.decompress(rows[0][1])) if rows else None
