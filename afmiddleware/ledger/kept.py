"""The texts of the policies that decided, as every ledger keeps them: by digest, each once."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.model.policy_text import PolicyText, pairing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model.entry import InForce

_MOST: Final = 1 << 26
"""How much a row may unpack to, in bytes: what was put there by somebody else may be made to fill the memory."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(PolicyText).decode


def rows_of(item: InForce, sign: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """What is to be kept of a policy that is put in force, by digest: its text, and whose text a policy has.

    The digest of a policy differs from that of its file where the application's code declares bindings too; `sign`
    authenticates which file it is, with a key of the ledger's.
    """
    found = {}
    if item.text is not None:
        found[item.text.file] = zlib.compress(_pack(item.text))
    if item.file and item.policy != item.file:
        proof = sign(pairing(item.policy, item.file))
        found[item.policy] = zlib.compress(_pack(PolicyText(item.file, proof=proof)))
    return found


def text_of(read: Callable[[str], Sequence[tuple[str, bytes]]], beginning: str) -> PolicyText | None:
    """The text of the one policy whose digest begins so, `None` where none or several do, or it was not kept.

    `read` gives up to two of the rows whose digest begins in a way. Whether it is the text that decided is for whoever
    decides by it to look. Raises `ReceiptError` for a row that cannot be read.
    """
    found = read(beginning)
    if len(found) != 1:
        return None
    kept = _kept(*found[0])
    if kept.text:
        return kept
    # One that only points at another is never pointed at.
    rows = read(kept.file)
    return replace(_kept(*rows[0]), proof=kept.proof) if rows else None


def _kept(digest: str, data: bytes) -> PolicyText:
    try:
        return _unpack(zlib.decompressobj().decompress(data, _MOST))
    except (zlib.error, msgspec.MsgspecError) as error:
        msg = f"the policy {digest[:16]} in the ledger cannot be read: it was changed there"
        raise ReceiptError(msg) from error
