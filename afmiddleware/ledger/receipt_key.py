"""The secrets of a log, in files beside the ledger or the policy: what authenticates its receipts, what signs it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.checkpoint import KeySigner, key_name, verifies
from afmiddleware.receipts.keys import ReceiptKeys

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.receipts.checkpoint import Signer

KEY_BYTES: Final = 32
ARCHIVE: Final = "archive"
"""What stands in a head in the place of the key that would continue the log."""


def new_log() -> str:
    """The id of a log that begins now."""
    return f"afm-{secrets.token_hex(8)}"


def read_keys(path: Path, secret: bytes | None = None) -> ReceiptKeys | None:
    """The keys of an existing log, `None` without a key file. Raises `ReceiptError` for a bad one.

    `secret` (32 bytes) stands in for the file.
    """
    if secret is not None:
        return ReceiptKeys.derive(secret)
    if not path.exists():
        return None
    return ReceiptKeys.derive(_read_secret(path))


def keys_of_log(size: int, kid: str, path: Path, secret: bytes | None, place: str) -> ReceiptKeys:
    """The keys of the log in `place`, which has `size` receipts made with the key `kid`.

    A key file is made only together with a new log. Raises `ReceiptError`, saying what to do, when the key of a log
    that has begun is missing or another.
    """
    if not size:
        return ReceiptKeys.derive(secret or _new_or_old_secret(path))
    if kid == ARCHIVE:
        msg = f"the log in {place} is an archive: it is read and verified, and never continued"
        raise ReceiptError(msg)
    found = read_keys(path, secret)
    if found is None:
        msg = (
            f"the key file {path} of the receipt log in {place} is missing: restore it, or copy it from a "
            "host that writes this log; a new key is never made over an existing log"
        )
        raise ReceiptError(msg)
    if found.kid != kid:
        msg = f"the key {found.kid} is not the one the receipt log in {place} was made with ({kid})"
        raise ReceiptError(msg)
    return found


def signer_of_log(size: int, known: bytes, path: Path, signer: Signer | None, place: str) -> Signer | None:
    """What signs the log in `place`, which has `size` receipts and is signed by the public key `known`.

    `signer` stands in for the key file. A key file is made only together with a new log; a log of an older release has
    no key and stays unsigned (`None`) until it is given one. Raises `ReceiptError`, saying what to do.
    """
    if signer is None and not path.exists():
        if size and not known:
            return None
        if size:
            msg = (
                f"the signing key {path} of the receipt log in {place} is missing: restore it, or copy it from a "
                "host that writes this log; a new key is never made over an existing log"
            )
            raise ReceiptError(msg)
        write_signing_key(path)
    if signer is None:
        signer = read_signing_key(path)
    if size and known and signer.public != known:
        msg = (
            f"the signing key {key_name(signer.public)} is not the one of the receipt log in {place} "
            f"({key_name(known)}): restore that one; a key is replaced with: afmiddleware keys rotate --receipts"
        )
        raise ReceiptError(msg)
    return signer


def check_signer(signer: Signer) -> None:
    """Raises `ReceiptError` when what signs does not have the private half of the key it names."""
    text = b"afmiddleware/self-check/1\n" + secrets.token_hex(16).encode()
    if not verifies(signer.public, signer.sign(text), text):
        msg = f"what signs the receipt log does not sign with the key {key_name(signer.public)} that it names"
        raise ReceiptError(msg)


def read_signing_key(path: Path) -> KeySigner:
    """The private key in a file. Raises `ReceiptError`."""
    try:
        return KeySigner.read(path.read_bytes())
    except (OSError, ReceiptError) as error:
        msg = f"the signing key {path} cannot be read: {error}"
        raise ReceiptError(msg) from error


def write_signing_key(path: Path) -> KeySigner:
    """Make a private key in a new file that only its owner reads. Raises `ReceiptError` when there is one already."""
    key = Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        msg = f"the signing key {path} cannot be made: {error.strerror}"
        raise ReceiptError(msg) from error
    return KeySigner(key)


def _new_or_old_secret(path: Path) -> bytes:
    if path.exists():
        return _read_secret(path)
    secret = secrets.token_bytes(KEY_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(secret.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return secret


def _read_secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        msg = f"the key file {path} cannot be read: it holds {KEY_BYTES} bytes as hexadecimal digits"
        raise ReceiptError(msg) from error
    if len(secret) != KEY_BYTES:
        msg = f"the key file {path} holds {len(secret)} bytes; a receipt key has {KEY_BYTES}"
        raise ReceiptError(msg)
    return secret
