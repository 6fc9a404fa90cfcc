"""The secret that the receipts of a log are authenticated by, in a file beside the ledger or the policy."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.keys import ReceiptKeys

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32


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
    found = read_keys(path, secret)
    if found is None:
        msg = (
            f"the key file {path} of the receipt log in {place} is missing: restore it; a new key "
            "is never made over an existing log"
        )
        raise ReceiptError(msg)
    if found.kid != kid:
        msg = f"the key {found.kid} is not the one the receipt log in {place} was made with ({kid})"
        raise ReceiptError(msg)
    return found


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
