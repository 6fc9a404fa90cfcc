"""The keys of a receipt log, all derived from one secret."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from afmiddleware.errors import ReceiptError

_MIN_SECRET: Final = 32


class ReceiptKeys(msgspec.Struct, frozen=True):
    """What authenticates receipts (HMAC-SHA-256) and hides their owners.

    `kid` names the secret without telling it: 16 hexadecimal digits.
    """

    kid: str
    mac_key: bytes
    owner_key: bytes

    @classmethod
    def derive(cls, secret: bytes) -> ReceiptKeys:
        """Derive the keys from at least 32 secret bytes (HKDF-SHA-256, RFC 5869). Raises `ReceiptError`."""
        if len(secret) < _MIN_SECRET:
            msg = f"a receipt secret has at least {_MIN_SECRET} bytes, this one has {len(secret)}"
            raise ReceiptError(msg)
        return cls(
            kid=_expand(secret, b"afm/kid", 8).hex(),
            mac_key=_expand(secret, b"afm/mac", 32),
            owner_key=_expand(secret, b"afm/owner", 32),
        )

    def mac(self, leaf: bytes) -> bytes:
        """The HMAC-SHA-256 of a leaf hash."""
        return hmac.digest(self.mac_key, leaf, "sha256")

    def pseudonym(self, owner: str) -> str:
        """The name an owner has in the log: stable, and not to be turned back without the key."""
        return hmac.digest(self.owner_key, owner.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=b"afmiddleware receipts v1", info=label).derive(secret)
