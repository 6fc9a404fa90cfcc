"""The secrets of a log, in files beside the ledger or the policy: what authenticates its receipts, what signs it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
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
        appoint(path, known)
        signer = read_signing_key(path)
    if size and known and signer.public != known:
        msg = (
            f"the signing key {key_name(signer.public)} is not the one of the receipt log in {place} "
            f"({key_name(known)}): restore that one; a key is replaced with: afmiddleware keys rotate --receipts"
        )
        raise ReceiptError(msg)
    return signer


def next_of(path: Path) -> Path:
    """Where the key that is to take the place of another is, until the log has appointed it."""
    return path.with_name(f"{path.name}.next")


def signer_at(path: Path, public: bytes = b"") -> Signer | None:
    """The key in a file, or beside it where a rotation has appointed `public` and not put it there yet.

    `None` without a file. Raises `ReceiptError`.
    """
    if not path.exists():
        return None
    found = read_signing_key(path)
    fresh = next_of(path)
    if public and found.public != public and fresh.exists():
        other = read_signing_key(fresh)
        return other if other.public == public else found
    return found


def appoint(path: Path, public: bytes) -> None:
    """Put the key that the log has appointed in its place, where a rotation was broken off before it could."""
    found = signer_at(path, public)
    if public and found is not None and found.public == public != read_signing_key(path).public:
        # Whoever has done it in the meantime has done the same.
        with suppress(FileNotFoundError):
            os.replace(next_of(path), path)  # noqa: PTH105 (a rename that replaces, on every system)


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
        _write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        msg = f"the signing key {path} cannot be made: {error.strerror}"
        raise ReceiptError(msg) from error
    return KeySigner(key)


def _new_or_old_secret(path: Path) -> bytes:
    if path.exists():
        return _read_secret(path)
    secret = secrets.token_bytes(KEY_BYTES)
    try:
        _write_whole(path, f"{secret.hex()}\n".encode())
    except OSError as error:
        msg = f"the key file {path} cannot be made: {error.strerror}"
        raise ReceiptError(msg) from error
    return secret


def _write_whole(path: Path, content: bytes) -> None:
    """Make a file that only its owner reads, whole or not at all: half a key would never be replaced."""
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link does not replace what has come to be there in the meantime.
        path.hardlink_to(made)
    finally:
        made.unlink(missing_ok=True)


def _read_secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(path.read_bytes().decode("ascii").strip())
    except (OSError, ValueError) as error:
        msg = f"the key file {path} cannot be read: it holds {KEY_BYTES} bytes as hexadecimal digits"
        raise ReceiptError(msg) from error
    if len(secret) != KEY_BYTES:
        msg = f"the key file {path} holds {len(secret)} bytes; a receipt key has {KEY_BYTES}"
        raise ReceiptError(msg)
    return secret
