"""Nonces for proofs (RFC 9449 section 8): made of the time and a key, so that nobody has to remember them."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT: Final = 300_000_000
"""How long a nonce is handed out, in microseconds; it is good for as long again."""


class Nonces:
    """Hands out nonces, and knows its own. `sign` authenticates bytes with a key that all processes share."""

    def __init__(self, sign: Callable[[bytes], bytes]) -> None:
        self._sign = sign

    def fresh(self, now: int) -> str:
        """The nonce of this time, in microseconds since the epoch."""
        return self._of(now // SLOT)

    def good(self, nonce: object, now: int) -> bool:
        """Whether a nonce was handed out in this slot of time or in the one before."""
        if not isinstance(nonce, str) or not nonce.isascii():
            return False
        return any(hmac.compare_digest(nonce, self._of(slot)) for slot in (now // SLOT, now // SLOT - 1))

    def _of(self, slot: int) -> str:
        return urlsafe_b64encode(self._sign(b"dpop-nonce %d" % slot)[:18]).decode("ascii")
