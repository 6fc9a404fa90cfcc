"""Checkpoints read as C2SP notes, and only a key of the log signs one."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.checkpoint import (
    CallSigner,
    Checkpoint,
    KeySigner,
    check,
    jwk,
    key_id,
    key_name,
    parse,
    read_public,
    sign,
    verifier_key,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER, OTHER = KeySigner(KEY), KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
POINT = Checkpoint("afm-test", 7, bytes(range(32)))
NOTE, _ = sign(POINT, SIGNER)


def test_the_text_is_that_of_c2sp():
    root = base64.b64encode(bytes(range(32))).decode()
    body, _, line = NOTE.partition("\n\n")
    assert body == f"afm-test\n7\n{root}"
    dash, name, blob = line.rstrip("\n").split(" ")
    assert (dash, name) == ("\u2014", "afm-test")
    data = base64.b64decode(blob)
    assert data[:4] == key_id("afm-test", SIGNER.public)
    KEY.public_key().verify(data[4:], (body + "\n").encode())


def test_the_verifier_key_of_go_sumdb():
    # The published key of sum.golang.org: its id is computed as ours are.
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert verifier_key("sum.golang.org", read_public(text)) == text


def test_a_signed_checkpoint_is_taken_and_nothing_else():
    assert check(NOTE, "afm-test", [OTHER.public, SIGNER.public]) == POINT
    for origin, keys in (("afm-other", [SIGNER.public]), ("afm-test", [OTHER.public]), ("afm-test", [])):
        with pytest.raises(ReceiptError):
            check(NOTE, origin, keys)


def test_no_changed_character_is_taken():
    for at in range(len(NOTE)):
        for other in ("\n", " ", "A", "0", "\u2014", ""):
            changed = NOTE[:at] + other + NOTE[at + 1 :]
            if changed != NOTE:
                with pytest.raises(ReceiptError):
                    check(changed, "afm-test", [SIGNER.public])


def test_lines_of_others_are_ignored():
    witness = "\u2014 witness.example " + base64.b64encode(bytes(76)).decode() + "\n"
    assert check(NOTE + witness, "afm-test", [SIGNER.public]) == POINT
    head, _, ours = NOTE.partition("\n\n")
    assert check(f"{head}\n\n{witness}{ours}", "afm-test", [SIGNER.public]) == POINT
    with pytest.raises(ReceiptError):
        check(f"{head}\n\n{witness}", "afm-test", [SIGNER.public])


@pytest.mark.parametrize(
    "note", ["", "\n", "a\n1\n", NOTE * 2, NOTE[:-1], NOTE + "x", "\u2014" * 100, NOTE.replace("7", "07")]
)
def test_what_is_no_note_is_refused(note: str):
    with pytest.raises(ReceiptError):
        parse(note)


def test_a_public_key_in_every_form():
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    one = jwk(SIGNER.public)
    forms = (
        pem,
        verifier_key("afm-test", SIGNER.public),
        json.dumps(one),
        json.dumps({"keys": [one]}),
        SIGNER.public.hex(),
    )
    for form in forms:
        assert read_public(form) == SIGNER.public
    wrong = verifier_key("afm-test", SIGNER.public).replace("afm-test", "afm-tess")
    for form in (
        "",
        "xx",
        "ab",
        wrong,
        "{}",
        '{"keys": []}',
        '{"keys": [{"kty": "RSA"}]}',
        "[]",
        pem.replace("M", "N", 1),
    ):
        with pytest.raises(ReceiptError):
            read_public(form)


def test_the_thumbprint_of_rfc_8037():
    # RFC 8037, appendices A.2 and A.3.
    assert (
        key_name(base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="))
        == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


def test_signing_keys_are_read_and_never_shown():
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert KeySigner.read(pem).public == KeySigner.read(bytes(range(32)).hex().encode()).public == SIGNER.public
    for bad in (b"", b"secret-text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff"):
        with pytest.raises(ReceiptError) as error:
            KeySigner.read(bad)
        assert "secret" not in str(error.value)
    called = CallSigner(SIGNER.public, KEY.sign)
    assert sign(POINT, called) == sign(POINT, SIGNER)
    with pytest.raises(ReceiptError):
        CallSigner(b"short", KEY.sign)
