"""Sessions: what a budget per session is counted by. No caller gets a fresh one by choosing another name.

A session is named by the issuer in a token, or minted here: bound to its caller, with an end, and only so many. Whoever
names none has one that lasts as long as the policy's window. What else a client calls a session is a label.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, SESSION_INVALID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts

PREFIX: Final = "afs1."
_LABEL = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_OWNER, _TIME, _RANDOM = 16, 8, 9
_SIZE: Final = _OWNER + 2 * _TIME + _RANDOM
_LENGTHS: Final = {"hour": 3_600_000_000, "day": 86_400_000_000}


class Handle(NamedTuple):
    """A minted session: the handle to send back, and when it ends (microseconds since the epoch)."""

    text: str
    ends: int


class Sessions:
    """Which session a request belongs to. `sign` authenticates bytes with a key that all processes share.

    `sources` are `claim` and `minted`; `header` is the lower-case name of the header that carries a handle; `window` is
    `hour`, `day` or `total`: how long the session of whoever names none lasts. `ttl` is how long a minted one lives, in
    microseconds. Without `counted` no limit counts by session, and only handles are looked at.
    """

    def __init__(  # noqa: PLR0913 (what the policy says of sessions)
        self,
        sign: Callable[[bytes], bytes],
        *,
        sources: Collection[str] = ("claim", "minted"),
        header: bytes = b"agent-session",
        window: str = "day",
        ttl: int = 86_400_000_000,
        counted: bool = True,
    ) -> None:
        self._sign = sign
        self._claims = "claim" in sources
        self.mints = "minted" in sources
        self._header = header
        self._window = window
        self.ttl = ttl
        self._counted = counted

    def within(self, found: Identified, facts: HttpFacts, now: int) -> Identified:
        """Whoever was found, in their session. A handle that is forged, over or another caller's is refused."""
        named = ""
        if self._header in facts.fields:
            handle = facts.fields[self._header].decode("latin-1").strip(" ")
            if len(facts.all(self._header)) > 1 or _LABEL.fullmatch(handle) is None:
                return Invalid("a session handle that is none, or several", REQUEST_AMBIGUOUS)
            if handle.startswith(PREFIX) and isinstance(found, Ok | Absent):
                named = self._read(handle, found.actor if isinstance(found, Ok) else None, now)
                if not named:
                    return Invalid("a session handle that is not this caller's", SESSION_INVALID)
        if not self._counted or not isinstance(found, Ok):
            return found
        actor = found.actor
        session = f"claim:{actor.session}" if self._claims and actor.session else named or self._implicit(now)
        return replace(found, actor=replace(actor, session=session))

    def mint(self, actor: Actor, now: int, draw: Callable[[int], bytes]) -> Handle:
        """A new session of an actor. How many there may be is for limits to say."""
        ends = now + self.ttl
        payload = _owner(actor) + now.to_bytes(_TIME, "big") + ends.to_bytes(_TIME, "big") + draw(_RANDOM)
        return Handle(f"{PREFIX}{_encoded(payload)}.{_encoded(self._mac(payload))}", ends)

    def _read(self, handle: str, actor: Actor | None, now: int) -> str:
        """The name of a minted session, empty when the handle is not good for this caller now."""
        _, payload_text, mac_text = [*handle.split("."), "", ""][:3]
        payload, mac = _decoded(payload_text), _decoded(mac_text)
        if not self.mints or actor is None or len(payload) != _SIZE or handle.count(".") != 2:  # noqa: PLR2004 (its parts)
            return ""
        if not hmac.compare_digest(mac, self._mac(payload)) or payload[:_OWNER] != _owner(actor):
            return ""
        ends = int.from_bytes(payload[_OWNER + _TIME : _OWNER + 2 * _TIME], "big")
        return f"minted:{payload[-_RANDOM:].hex()}" if now < ends else ""

    def _mac(self, payload: bytes) -> bytes:
        return self._sign(b"session " + payload)

    def _implicit(self, now: int) -> str:
        length = _LENGTHS.get(self._window)
        return f"{self._window}:{now // length}" if length is not None else ""


def _owner(actor: Actor) -> bytes:
    return sha256(b"session owner " + actor.id.encode("utf-8", "surrogatepass")).digest()[:_OWNER]


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """The bytes of unpadded base64url in its one spelling; nothing when it is none."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return data if _encoded(data) == text else b""
