"""Sealing a batch of receipts: the tree grows by their leaves, and its root is signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.model.receipt import OPERATOR, Draft, Seal
from afmiddleware.receipts.checkpoint import Checkpoint, rotation_text, sign
from afmiddleware.receipts.merkle import Frontier, Node, extend

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from afmiddleware.model.receipt import Value
    from afmiddleware.receipts.checkpoint import Signer


class SigningKey(msgspec.Struct, frozen=True):
    """A public key of a log: it signs the checkpoints of more than `after` receipts, until the next key does.

    `proof` is the signature of the key before it over `rotation_text`, empty for the first.
    """

    after: int
    public: bytes
    proof: bytes = b""


class Sealed(msgspec.Struct, frozen=True):
    """The tree after a batch, its nodes that are to be stored, and the signed note (empty without a signer)."""

    frontier: Frontier
    nodes: list[Node]
    note: str


def seal(log: str, frontier: Frontier, leaves: Iterable[bytes], signer: Signer | None, into: Seal | None) -> Sealed:
    """Seal a batch. `into` is what the batch's references hold; it is filled in.

    Sign only what is about to be committed, and throw the note away when the commit fails: two signed roots of one
    size would prove the log a liar.
    """
    grown, nodes = extend(frontier, leaves)
    if signer is None:
        return Sealed(grown, nodes, "")
    point = Checkpoint(log, grown.size, grown.root())
    note, signature = sign(point, signer)
    if into is not None:
        into.size, into.root, into.signature = point.size, point.root, signature
    return Sealed(grown, nodes, note)


def rotation(log: str, old: Signer, new: bytes) -> tuple[Draft, bytes]:
    """The record that a new key takes over, and the old key's signature that stands in it."""
    proof = old.sign(rotation_text(log, old.public, new))
    body = {"id": "", "old_key": old.public.hex(), "new_key": new.hex(), "proof": proof.hex()}
    return Draft(kind="rotation", owner=OPERATOR, body=body), proof


def redaction(fields: Sequence[str], seqs: Sequence[int], reason: str, by: str) -> Draft:
    """The record that private values of some receipts were deleted: which, why, and on whose word."""
    body: dict[str, Value] = {"id": "", "fields": list(fields), "seqs": list(seqs), "reason": reason, "by": by}
    return Draft(kind="redaction", owner=OPERATOR, body=body)
