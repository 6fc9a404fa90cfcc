"""API keys: `afk_live_<id>_<secret><check>` (or another prefix), a bearer secret that the ledger knows by digest only.

The id (10 letters and digits) is public, the secret has 256 bits, and the check digits (CRC-32, 6) refuse typing
errors and random guesses before anything is looked up. So many random bits need no slow hash.
"""

from __future__ import annotations

import hmac
import re
import zlib
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachetools import LRUCache

from afmiddleware.identity.jose import is_name
from afmiddleware.identity.needs import Need, NeedKey, NoteUse
from afmiddleware.identity.outcome import Identified, Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.api_key import ApiKeyRecord as ApiKeyRecord  # noqa: PLC0414 (known by this name too)
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

PREFIX: Final = "afk"
FRESH_SECONDS: Final = 5
USE_EVERY: Final = 60_000_000
"""How often a process notes that a key is in use, in microseconds."""
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"[a-z][a-z0-9]{1,11}_live_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_REMEMBERED: Final = 10_000
_NEVER: Final = 2**63
_LONGEST: Final = 78
_DIGEST: Final = 32
_DOTS_OF_A_TOKEN: Final = 2
_IMPORTED = re.compile(r"[!-~]{8,512}", re.ASCII)
_ID: Final = slice(-60, -50)
"""Where the id stands, whatever the prefix."""


def new_key(  # noqa: PLR0913 (what a record holds)
    account: str,
    draw: Callable[[int], bytes],
    *,
    now: int,
    label: str = "",
    scopes: Sequence[str] = (),
    expires: int = 0,
    prefix: str = PREFIX,
    **more: Any,
) -> tuple[str, ApiKeyRecord]:
    """Make a key: its text, to be shown once, and its record. `draw` gives secure random bytes.

    The text begins with `prefix` (2 to 12 lower-case letters and digits). `more` are further members of the record.
    Raises `ValueError` as `check_record` does.
    """
    key_id = _base62(int.from_bytes(draw(8), "big"), 10)
    head = f"{prefix}_live_{key_id}_{_base62(int.from_bytes(draw(32), 'big'), 43)}"
    text = head + _check(head)
    record = ApiKeyRecord(
        id=key_id,
        digest=_digest(text),
        account=account,
        label=label,
        scopes=tuple(scopes),
        created=now,
        expires=expires,
        **more,
    )
    check_record(record)
    return text, record


def prefixes(prefix: str = PREFIX) -> tuple[str, ...]:
    """How keys may begin: with `prefix`, and with the usual one beside it."""
    return tuple(sorted({f"{PREFIX}_", f"{prefix}_"}))


def imported_key(digest: bytes, account: str, *, now: int, **more: Any) -> ApiKeyRecord:
    """The record of a key of another make, known by the SHA-256 of its text (32 bytes). Raises as `new_key`."""
    if len(digest) != _DIGEST:
        msg = f"a SHA-256 digest has {_DIGEST} bytes, this one has {len(digest)}"
        raise ValueError(msg)
    record = ApiKeyRecord(id=imported_id(digest), digest=digest, account=account, created=now, **more)
    check_record(record)
    return record


def imported_id(digest: bytes) -> str:
    """What a key of another make is looked up by: `x` and the first 80 bits of its digest, in hexadecimal."""
    return f"x{digest[:10].hex()}"


def check_record(record: ApiKeyRecord) -> None:
    """Raise `ValueError` when a record names what cannot stand in limits, receipts and logs.

    An account is 1 to 128 letters, digits and `. _ @ + -`; scopes, roles, tenant, agent and label are printable, the
    first two without a space; networks are addresses with or without a prefix length.
    """
    if _ACCOUNT.fullmatch(record.account) is None:
        msg = f"{record.account[:60]!r} is not an account: 1 to 128 letters, digits, and . _ @ + - inside"
        raise ValueError(msg)
    for name in (*record.scopes, *record.roles):
        if not is_name(name) or " " in name:
            msg = f"{name[:60]!r} is not a scope or a role: printable text without a space"
            raise ValueError(msg)
    for name in filter(None, (record.tenant, record.agent, record.label)):
        if not is_name(name):
            msg = f"{name[:60]!r} is not printable text of at most 256 characters"
            raise ValueError(msg)
    for network in record.networks:
        try:
            ip_network(network)
        except ValueError:
            msg = f"{network[:60]!r} is not an address or a network, such as 10.0.0.0/8 with no bits after it"
            raise ValueError(msg) from None


class _Known(NamedTuple):
    """A key that was good a moment ago.

    It is believed `until` then, by the timer, and `ends` (microseconds since the epoch) whatever the timer says.
    """

    digest: bytes
    ok: Ok
    until: float
    ends: int
    networks: tuple[str, ...]


class ApiKeys:
    """Checks API keys. Records are remembered for `fresh` seconds, so that a revoked key falls within that time.

    Keys begin with `prefix`, or with the usual one. `timer` counts seconds, `lock` guards what was seen. What is
    remembered stands in a plain dictionary that starts afresh when it is full; its reads and writes are single atomic
    steps, so threads share it without a lock. With `imported` keys of another make are looked up too.
    """

    def __init__(
        self,
        timer: Callable[[], float],
        lock: AbstractContextManager[object],
        *,
        imported: bool = False,
        prefix: str = PREFIX,
        fresh: int = FRESH_SECONDS,
    ) -> None:
        self.prefixes = prefixes(prefix)
        self._fresh = fresh
        self._imported = imported
        # Whose id has once led to a good key is looked up however much is guessed from where it comes.
        self._seen: LRUCache[str, bool] = LRUCache(_REMEMBERED)
        self._known: dict[str, _Known] = {}
        self._noted: LRUCache[str, int] = LRUCache(_REMEMBERED)
        self._timer = timer
        self._lock = lock

    def recall(self, text: str, now: int, peer: str = "") -> Ok | None:
        """Whose key this is when it was good within the last seconds; `None` says nothing of it."""
        known = self._known.get(text[_ID])
        if known is None or len(text) > _LONGEST or not text.isascii():
            return None
        digest, ok, until, ends, networks = known
        if now >= ends or self._timer() >= until:
            return None
        if networks and not within(peer, networks):
            return None
        return ok if hmac.compare_digest(digest, _digest(text)) else None

    def takes(self, text: str) -> bool:
        """Whether a text is looked at as an API key: one of ours, or where they are accepted one of another make."""
        return text.startswith(self.prefixes) or (self._imported and text.count(".") != _DOTS_OF_A_TOKEN)

    def check(self, text: str, now: int, peer: str = "") -> Generator[Need, Any, Identified]:
        """Whose key this is, shown from the address `peer`. Asks for its record when it was not seen lately."""
        recalled = self.recall(text, now, peer)
        if recalled is not None:
            return recalled
        own = text.startswith(self.prefixes)
        match = _KEY.fullmatch(text) if own else None
        if own and (match is None or match.group(3) != _check(text[:-6])):
            return Invalid("the API key is malformed")
        if not own and not (self._imported and _IMPORTED.fullmatch(text)):
            return Invalid("not an API key", foreign=True)
        key_id = text[_ID] if own else imported_id(_digest(text))
        with self._lock:
            seen = key_id in self._seen
        record: ApiKeyRecord | None = yield NeedKey(key_id, seen)
        digest = record.digest if record is not None else _NOBODY
        good = hmac.compare_digest(digest, _digest(text))
        if record is None or not good:
            return Invalid(f"the API key {key_id} is not known", guess=True)
        if record.revoked or now < record.begins or (record.expires and now >= record.expires):
            return Invalid(f"the API key {key_id} is revoked or expired")
        if record.networks and not within(peer, record.networks):
            return Invalid(f"the API key {key_id} is shown from an address that it is not for")
        ok = Ok(
            Actor(
                id=f"key:{record.account}",
                tier=Tier.TOKEN,
                proof="bearer",
                scopes=frozenset(record.scopes),
                roles=frozenset(record.roles),
                account=record.account,
                agent=record.agent,
                tenant=record.tenant,
                credential=f"afk:{key_id}",
            ),
        )
        with self._lock:
            self._seen[key_id] = True
            noted = now - self._noted.get(key_id, -USE_EVERY) < USE_EVERY
            if not noted:
                self._noted[key_id] = now
        if not noted:
            yield NoteUse(key_id, now)
        if own:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            until, ends = self._timer() + self._fresh, record.expires or _NEVER
            self._known[key_id] = _Known(record.digest, ok, until, ends, record.networks)
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


def within(peer: str, networks: Sequence[str]) -> bool:
    """Whether an address is in one of the networks. An IPv4 address in IPv6 clothes is the IPv4 one."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network, strict=False) for network in networks)


_NOBODY: Final = bytes(32)
"""Compared against when there is no such key, so that the work is the same."""
