"""docs/receipt-format.md says what is so: every constant on it, against the bytes that are made."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.log import RECENT
from afmiddleware.ledger.receipt_key import new_log
from afmiddleware.pep.endpoints import OPERATOR
from afmiddleware.receipts import bundle, standalone
from afmiddleware.receipts.canonical import encode, parse
from afmiddleware.receipts.chain import NO_LEAF, commitment
from afmiddleware.receipts.checkpoint import Checkpoint, KeySigner, sign, verifier_key
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.receipts.notary import redaction, rotation
from afmiddleware.receipts.record import WINDOW, aggregates, counted_as
from tests.unit.receipts.conftest import KEYS, honest

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "receipt-format.md").read_text(encoding="utf-8").split())
SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def says(*texts: str) -> None:
    for text in texts:
        assert " ".join(text.split()) in PAGE, text


def test_what_stands_in_every_body() -> None:
    says("| `v` | 1 |", "`afm-` and 16 hexadecimal digits", "from 1, without a gap", "64 zeros in the first")
    says("stable, 32 hexadecimal digits", "microseconds since the epoch")
    log, _ = honest()
    for place, one in enumerate(log):
        body = json.loads(one.receipt.body)
        assert body["v"] == 1
        assert body["seq"] == place + 1
        assert re.fullmatch("[0-9a-f]{32}", body["owner"])
        assert body["kid"] == KEYS.kid
        # Every member that the page lists is there, but for those it says may be missing.
        listed = {
            name
            for row in re.findall(r"\| ((?:`[a-z_]+`(?:, )?)+) \|", PAGE)
            for name in re.findall("`([a-z_]+)`", row)
        }
        assert {"v", "log", "seq", "ts", "kind", "prev", "owner", "oseq", "oprev", "kid"} <= listed & body.keys()
    assert json.loads(log[0].receipt.body)["prev"] == "0" * 64 == NO_LEAF.hex()
    assert re.fullmatch(r"afm-[0-9a-f]{16}", new_log())


def test_the_values_of_a_body() -> None:
    says(
        "`a-z`, `0-9` and `_`", "integers within ±(2^53 − 1)", "at most eight deep", "There are no floats and no nulls"
    )
    for good in (2**53 - 1, -(2**53) + 1, "x", True, [1], {"a_9": "b"}):
        assert parse(encode({"a": good})) == {"a": good}  # type: ignore[dict-item]
    for bad in (b'{"a":9007199254740992}', b'{"a":1.0}', b'{"a":null}', b'{"A":1}', b'{"a-b":1}'):
        with pytest.raises(ReceiptError):
            parse(bad)
    deep: object = "x"
    for _ in range(8):
        deep = [deep]
    assert parse(encode({"a": deep}))  # type: ignore[dict-item]
    with pytest.raises(ReceiptError):
        parse(encode({"a": [deep]}))  # type: ignore[list-item]


def test_leaves_commitments_and_nodes() -> None:
    says(
        "SHA-256(0x00 || body)",
        "`afm/c1` || salt || length of the name, two bytes, big-endian || name || 0x01 || value",
    )
    says("a salt of 16 bytes", "for an absent value 0x00 stands last, and no value", "SHA-256(0x01 || left || right)")
    log, _ = honest()
    first = log[0].receipt
    assert first.leaf == sha256(b"\0" + first.body).digest()
    body = json.loads(first.body)
    for name, (salt, value) in first.disclosed.items():
        assert len(salt) == 16
        said = b"\0" if value is None else b"\1" + value.encode()
        made = sha256(b"afm/c1" + salt + len(name).to_bytes(2, "big") + name.encode() + said).hexdigest()
        assert made == body["c"][name] == commitment(name, salt, value)
    grown, _ = extend(Frontier(), [bytes(32), bytes([1]) * 32])
    assert grown.root() == sha256(b"\1" + bytes(32) + bytes([1]) * 32).digest()


def test_checkpoints_and_keys() -> None:
    says("key id, 4 bytes || Ed25519 signature, 64 bytes", "SHA-256(log || 0x0a || 0x01 || public key)")
    says("`log+id+base64(0x01 || public key)`", "afmiddleware/rotation/1 <log>", "with a line end after each line")
    public = SIGNER.public
    note, _ = sign(Checkpoint("afm-x", 7, bytes(32)), SIGNER)
    text, _, lines = note.partition("\n\n")
    assert text == f"afm-x\n7\n{b64encode(bytes(32)).decode()}"
    line = re.fullmatch("\u2014 afm-x ([A-Za-z0-9+/=]+)\n", lines)
    assert line is not None
    blob = b64decode(line.group(1))
    kid = sha256(b"afm-x" + b"\x0a\x01" + public).digest()[:4]
    assert (blob[:4], len(blob)) == (kid, 68)
    Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], f"{text}\n".encode())
    name, told_id, told = verifier_key("afm-x", public).split("+", 2)
    assert (name, told_id, b64decode(told)) == ("afm-x", kid.hex(), b"\x01" + public)
    draft, proof = rotation("afm-x", SIGNER, bytes(32))
    said = f"afmiddleware/rotation/1\nafm-x\n{public.hex()}\n{'0' * 64}\n".encode()
    Ed25519PublicKey.from_public_bytes(public).verify(proof, said)
    says("`rotation` (`old_key`, `new_key`, `proof`)", "A `redaction` lists `fields` and `seqs`")
    assert {"old_key", "new_key", "proof"} <= dict(draft.body).keys()  # type: ignore[arg-type]
    assert {"fields", "seqs"} <= dict(redaction(["peer"], [1], "gdpr", "ops").body).keys()  # type: ignore[arg-type]


def test_bundles() -> None:
    says(
        f'"format": "{bundle.PROOF}"',
        f'"format": "{bundle.EXPORT}"',
        "No line is longer than 1 MiB",
        '`{"end": how many, "checkpoints": how many}`',
    )
    assert bundle.MAX_LINE == standalone.MAX_LINE == 1 << 20
    for shape, text in ((bundle.Proof, bundle.PROOF), (bundle.Header, bundle.EXPORT)):
        told = re.search(rf'\{{"format": "{text}"([^}}]*)\}}', PAGE)
        assert told is not None
        assert {"format", *re.findall('"([a-z]+)"', told.group(1))} == {*shape.__struct_fields__}
    line = re.search(r"A receipt is `\{(.*?)\}`", PAGE)
    assert line is not None
    assert set(bundle.Line.__struct_fields__) <= {*re.findall('"([a-z]+)":', line.group(1))}
    key = bundle.Key.__struct_fields__
    assert key == ("key", "after", "proof")
    says("Exit 0: all holds. 3: tampered. 5: cannot be read; or all holds, and none of the keys given signed it.")


def test_what_is_served() -> None:
    says("/.well-known/agent-fence/", f"the scope `{OPERATOR}`", f"the last {RECENT} receipts are searched")
    says("14 hexadecimal digits of microseconds", "`counted:` and the beginning (`since`) of its window in as many")
    decision = f"{WINDOW * 3 + 5:014x}" + "0" * 18
    (draft,) = aggregates("anonymous", {(WINDOW * 3, "identity.required", "GET /"): 2})
    body = dict(draft.body)  # type: ignore[arg-type]
    assert body["id"] == counted_as(decision) == f"counted:{body['since']:014x}"
