"""The keys of a receipt log, all derived from one secret."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from afmiddleware.errors import ReceiptError

_MIN_SECRET: Final = 32
_REMEMBERED: Final = 4096
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class ReceiptKeys:
    """What authenticates receipts (HMAC-SHA-256) and hides their owners.

    `kid` names the secret without telling it: 16 hexadecimal digits.
    """

    def __init__(self, kid: str, mac_key: bytes, owner_key: bytes, ticket_key: bytes, salt_key: bytes) -> None:
        self.kid = kid
        # HMAC (RFC 2104) with both padded keys hashed beforehand; a copy of each is all that a receipt costs.
        padded = mac_key.ljust(_BLOCK, b"\0")
        self._inner = sha256(padded.translate(_INNER))
        self._outer = sha256(padded.translate(_OUTER))
        self._owner_key = owner_key
        self._salt_key = salt_key
        self._ticket_key = ticket_key
        self._pseudonyms: dict[str, str] = {}

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
            salt_key=_expand(secret, b"afm/salt", 32),
            ticket_key=_expand(secret, b"afm/ticket", 32),
        )

    def mac(self, leaf: bytes) -> bytes:
        """The HMAC-SHA-256 of a leaf hash."""
        inner = self._inner.copy()
        inner.update(leaf)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def sign(self, message: bytes) -> bytes:
        """The HMAC-SHA-256 of what is handed out to callers and comes back: session handles, nonces."""
        return hmac.digest(self._ticket_key, message, "sha256")

    def salt(self, log: str, seq: int, name: str) -> bytes:
        """The salt (16 bytes) of a member that is withheld: whoever has the key can check a value that is claimed."""
        return hmac.digest(self._salt_key, f"{log}\n{seq}\n{name}".encode(), "sha256")[:16]

    def pseudonym(self, owner: str) -> str:
        """The name an owner has in the log: stable, and not to be turned back without the key."""
        known = self._pseudonyms.get(owner)
        if known is None:
            known = hmac.digest(self._owner_key, owner.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()
            if len(self._pseudonyms) >= _REMEMBERED:
                self._pseudonyms.clear()
            self._pseudonyms[owner] = known
        return known


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=b"afmiddleware receipts v1", info=label).derive(secret)
