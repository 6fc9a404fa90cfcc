"""Bundles: receipts taken out of a ledger, with all that a stranger needs to check them with a public key.

A proof is one JSON object: some receipts, each with its path to the root of one signed checkpoint. An export is JSON
lines: a header, receipts in order, every checkpoint after the last receipt it covers, and a count at the end. Bodies
stand in both as text, so that their exact bytes are kept. `docs/receipt-format.md` is the reference.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Receipt
from afmiddleware.receipts.chain import leaf_hash
from afmiddleware.receipts.checkpoint import parse, read_public, verifier_key
from afmiddleware.receipts.merkle import inclusion
from afmiddleware.receipts.notary import SigningKey
from afmiddleware.receipts.seals import Had, read_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PROOF: Final = "afmiddleware-receipt-proof/1"
EXPORT: Final = "afmiddleware-receipts/1"
MAX_LINE: Final = 1 << 20
_encode = msgspec.json.Encoder().encode


class Key(msgspec.Struct, forbid_unknown_fields=True):
    """A public key of the log, as C2SP writes it; from which size on it signs; the signature of the key before it."""

    key: str
    after: int
    proof: str = ""


class Disclosed(msgspec.Struct, forbid_unknown_fields=True):
    """The value behind a commitment, with its salt in hexadecimal digits."""

    salt: str
    value: str | None


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A receipt: its body, the values behind its commitments, its path (base64), and the operator's HMAC (hex)."""

    body: str
    seq: int
    disclosed: dict[str, Disclosed] = {}
    path: list[str] = []
    mac: str = ""


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """The first line of an export. `owner` is the pseudonym of the one owner it is of, empty for the whole log."""

    format: str
    log: str
    size: int
    owner: str
    checkpoint: str
    keys: list[Key]


class Proof(msgspec.Struct, forbid_unknown_fields=True):
    """A proof, whole."""

    format: str
    log: str
    checkpoint: str
    keys: list[Key]
    receipts: list[Line]


_line = msgspec.json.Decoder(Line).decode
_header = msgspec.json.Decoder(Header).decode
_proof = msgspec.json.Decoder(Proof).decode


def prove(
    receipts: Iterable[Receipt],
    note: str,
    keys: Sequence[SigningKey],
    node: Callable[[int, int], bytes],
) -> Proof:
    """Prove that receipts stand in the log that a signed checkpoint commits to. Raises `ReceiptError`."""
    if not note:
        msg = "nothing can be proven: the log is not signed; make a key with: afmiddleware keys new --receipts"
        raise ReceiptError(msg)
    point = parse(note).checkpoint
    lines = [line(one, inclusion(one.seq - 1, point.size, node)) for one in receipts]
    return Proof(PROOF, point.origin, note, told_keys(point.origin, keys), lines)


def line(receipt: Receipt, path: Sequence[bytes] = (), *, mac: bool = False) -> Line:
    """A receipt as a bundle has it."""
    return Line(
        body=receipt.body.decode(),
        seq=receipt.seq,
        disclosed={name: Disclosed(salt.hex(), value) for name, (salt, value) in receipt.disclosed.items()},
        path=[b64encode(one).decode() for one in path],
        mac=receipt.mac.hex() if mac else "",
    )


def told_keys(log: str, keys: Sequence[SigningKey]) -> list[Key]:
    """The public keys of a log as a bundle has them."""
    return [Key(verifier_key(log, one.public), one.after, one.proof.hex()) for one in keys]


def export(
    header: Header,
    lines: Iterable[Line],
    checkpoints: Iterable[tuple[int, str]],
) -> Iterator[bytes]:
    """The lines of an export, each with its end of line. Nothing is held but one receipt."""
    yield _encode(header) + b"\n"
    notes = iter(checkpoints)
    note = next(notes, None)
    count = signed = 0
    for one in lines:
        while note is not None and note[0] < one.seq:
            yield _encode({"checkpoint": note[1]}) + b"\n"
            signed += 1
            note = next(notes, None)
        yield _encode(one) + b"\n"
        count += 1
    while note is not None and note[0] <= header.size:
        yield _encode({"checkpoint": note[1]}) + b"\n"
        signed += 1
        note = next(notes, None)
    yield _encode({"end": count, "checkpoints": signed}) + b"\n"


def read_export(lines: Iterable[bytes]) -> Iterator[Header | Receipt | str]:
    """Read an export: its header, then receipts and notes in order. Checks the form and nothing that is said.

    Raises `ReceiptError` at the first line that cannot be read, and at the end when the count does not fit.
    """
    count, signed, ended, number = 0, 0, False, 0
    for number, data in enumerate(lines, 1):
        try:
            if ended or len(data) > MAX_LINE or not data.endswith(b"\n"):
                msg = f"line {number} stands after the end, is too long or is cut off"
                raise ReceiptError(msg)
            if number == 1:
                header = _header(data)
                if header.format != EXPORT:
                    msg = f"{header.format[:40]!a} is no format this release reads"
                    raise ReceiptError(msg)
                yield header
            elif data.startswith(b'{"checkpoint":'):
                signed += 1
                yield str(msgspec.json.decode(data, type=dict[str, str])["checkpoint"])
            elif data.startswith(b'{"end":'):
                ended = msgspec.json.decode(data, type=dict[str, int]) == {"end": count, "checkpoints": signed}
                if not ended:
                    msg = f"the end counts other than {count} receipts and {signed} checkpoints"
                    raise ReceiptError(msg)
            else:
                count += 1
                yield receipt(_line(data))
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            msg = f"line {number} of the export cannot be read: {error}"
            raise ReceiptError(msg) from error
    if not ended:
        msg = f"the export is cut off after line {number}"
        raise ReceiptError(msg)


def receipt(told: Line) -> Receipt:
    """The receipt of a line; its leaf is computed. Raises `ReceiptError`."""
    body = told.body.encode()
    disclosed = {name: (bytes.fromhex(one.salt), one.value) for name, one in told.disclosed.items()}
    return Receipt(seq=told.seq, body=body, leaf=leaf_hash(body), mac=bytes.fromhex(told.mac), disclosed=disclosed)


def read_keys(header: Header) -> list[SigningKey]:
    """The public keys in a header. Raises `ReceiptError`."""
    try:
        return [SigningKey(one.after, read_public(one.key), bytes.fromhex(one.proof)) for one in header.keys]
    except ValueError as error:
        msg = "a key of the export cannot be read"
        raise ReceiptError(msg) from error


def read_had(text: str) -> list[Had]:
    """What somebody was given: `Agent-Receipt` headers, a line each, or a proof. Raises `ReceiptError`."""
    if not text.lstrip().startswith("{"):
        return [read_field(one) for one in text.splitlines() if one.strip()]
    try:
        proof = _proof(text.encode())
        point = parse(proof.checkpoint).checkpoint
        found = [receipt(one) for one in proof.receipts]
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        msg = "not a proof of receipts"
        raise ReceiptError(msg) from error
    return [Had(proof.log, one.seq, one.leaf, point.size, point.root, proof.checkpoint) for one in found]


def to_json(proof: Proof) -> bytes:
    """A proof as one JSON object."""
    return _encode(proof)
