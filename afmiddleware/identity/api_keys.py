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

import msgspec

from afmiddleware.identity.needs import Need, NeedKey
from afmiddleware.identity.outcome import Identified, Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

PREFIX: Final = "afk_"
FRESH_SECONDS: Final = 5
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"afk_live_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_REMEMBERED: Final = 10_000
_NEVER: Final = 2**63
_LENGTH: Final = 69
_ID: Final = slice(9, 19)


class ApiKeyRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger keeps of a key. Times are in microseconds since the epoch, 0 for never."""

    id: str
    digest: bytes
    account: str
    label: str = ""
    scopes: tuple[str, ...] = ()
    created: int = 0
    expires: int = 0
    revoked: int = 0


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
    """A key that was good a moment ago.

    It is believed `until` then, by the timer, and `ends` (microseconds since the epoch) whatever the timer says.
    """

    digest: bytes
    ok: Ok
    until: float
    ends: int


class ApiKeys:
    """Checks API keys. Records are remembered for five seconds, so that a revoked key falls within that time.

    `timer` counts seconds. What is remembered stands in a plain dictionary that starts afresh when it is full; its
    reads and writes are single atomic steps, so threads share it without a lock.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._known: dict[str, _Known] = {}
        self._timer = timer

    def recall(self, text: str, now: int) -> Ok | None:
        """Whose key this is when it was good within the last seconds; `None` says nothing of it."""
        known = self._known.get(text[_ID])
        if known is None or len(text) != _LENGTH or not text.isascii():
            return None
        digest, ok, until, ends = known
        if now >= ends or self._timer() >= until:
            return None
        return ok if hmac.compare_digest(digest, _digest(text)) else None

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
        if len(self._known) >= _REMEMBERED:
            self._known = {}
        self._known[key_id] = _Known(record.digest, ok, self._timer() + FRESH_SECONDS, record.expires or _NEVER)
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
