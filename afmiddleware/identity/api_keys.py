"""API keys: `afk_live_<id>_<secret><check>`, a bearer secret that the ledger knows by digest only.

The id (10 letters and digits) is public, the secret has 256 bits, and the check digits (CRC-32, 6) refuse typing
errors and random guesses before anything is looked up. So many random bits need no slow hash.
"""

from __future__ import annotations

import hmac
import re
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachetools import TTLCache

from afmiddleware.identity.needs import Need, NeedKey
from afmiddleware.identity.outcome import Identified, Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.api_key import ApiKeyRecord as ApiKeyRecord  # noqa: PLC0414 (known by this name too)
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

PREFIX: Final = "afk_"
FRESH_SECONDS: Final = 5
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"afk_live_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_REMEMBERED: Final = 10_000
_NEVER: Final = 2**63
_LENGTH: Final = 69
_ID: Final = slice(9, 19)


def new_key(  # noqa: PLR0913 (what a record holds)
    account: str,
    draw: Callable[[int], bytes],
    *,
    now: int,
    label: str = "",
    scopes: Sequence[str] = (),
    expires: int = 0,
) -> tuple[str, ApiKeyRecord]:
    """Make a key: its text, to be shown once, and its record. `draw` gives secure random bytes.

    Raises `ValueError` when the account is not 1 to 128 letters, digits and `. _ @ + -`.
    """
    if _ACCOUNT.fullmatch(account) is None:
        msg = f"{account[:60]!r} is not an account: 1 to 128 letters, digits, and . _ @ + - inside"
        raise ValueError(msg)
    key_id = _base62(int.from_bytes(draw(8), "big"), 10)
    head = f"afk_live_{key_id}_{_base62(int.from_bytes(draw(32), 'big'), 43)}"
    text = head + _check(head)
    record = ApiKeyRecord(
        id=key_id,
        digest=_digest(text),
        account=account,
        label=label,
        scopes=tuple(scopes),
        created=now,
        expires=expires,
    )
    return text, record


class _Known(NamedTuple):
    """A key that was good a moment ago, and when it `ends` (microseconds since the epoch)."""

    digest: bytes
    ok: Ok
    ends: int


class ApiKeys:
    """Checks API keys. Records are remembered for five seconds, so that a revoked key falls within that time.

    `timer` counts seconds, `lock` guards what is remembered.
    """

    def __init__(self, timer: Callable[[], float], lock: AbstractContextManager[object]) -> None:
        self._known: TTLCache[str, _Known] = TTLCache(_REMEMBERED, FRESH_SECONDS, timer)
        self._lock = lock

    def recall(self, text: str, now: int) -> Ok | None:
        """Whose key this is when it was good within the last seconds; `None` says nothing of it."""
        with self._lock:
            known = self._known.get(text[_ID])
        if known is None or len(text) != _LENGTH or not text.isascii() or now >= known.ends:
            return None
        return known.ok if hmac.compare_digest(known.digest, _digest(text)) else None

    def check(self, text: str, now: int) -> Generator[Need, Any, Identified]:
        """Whose key this is. Asks for its record when it was not seen lately."""
        recalled = self.recall(text, now)
        if recalled is not None:
            return recalled
        key_id = text[_ID]
        match = _KEY.fullmatch(text)
        if match is None or match.group(3) != _check(text[:-6]):
            return Invalid("the API key is malformed")
        record: ApiKeyRecord | None = yield NeedKey(key_id)
        digest = record.digest if record is not None else _NOBODY
        good = hmac.compare_digest(digest, _digest(text))
        if record is None or not good:
            return Invalid(f"the API key {key_id} is not known")
        if record.revoked or (record.expires and now >= record.expires):
            return Invalid(f"the API key {key_id} is revoked or expired")
        ok = Ok(
            Actor(
                id=f"key:{record.account}",
                tier=Tier.TOKEN,
                proof="bearer",
                scopes=frozenset(record.scopes),
                account=record.account,
                credential=f"afk:{key_id}",
            ),
        )
        with self._lock:
            self._known[key_id] = _Known(record.digest, ok, ends=record.expires or _NEVER)
        return ok


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _check(head: str) -> str:
    return _base62(zlib.crc32(head.encode("ascii")), 6)


def _digest(text: str) -> bytes:
    return sha256(text.encode("ascii")).digest()


_NOBODY: Final = bytes(32)
"""Compared against when there is no such key, so that the work is the same."""
