"""JSON Web Tokens (RFC 7519) of configured issuers, and nothing else that looks like one.

PyJWT checks signature and claims; what it leaves open is checked here: the header before anything is trusted, the shape
of the claims, duplicate members, lifetimes, and bindings that a plain bearer cannot satisfy (RFC 8725 throughout).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec
from cachetools import TTLCache

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.needs import Need, NeedKeySet
from afmiddleware.identity.outcome import Identified, Invalid, Ok, Unavailable
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from afmiddleware.identity.keyset import KeySet

MAX_TOKEN: Final = 8192
MAX_TEXT: Final = 256
MAX_DEPTH: Final = 4
MAX_AUDIENCES: Final = 8
REMEMBER_SECONDS: Final = 60
_REMEMBERED: Final = 10_000
_SECOND: Final = 1_000_000
_KID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_REFUSED_HEADERS: Final = frozenset({"crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c"})


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer whose tokens are believed. `snapshot` gives its keys as last read, without waiting."""

    name: str
    audience: str
    algorithms: tuple[str, ...]
    snapshot: Callable[[], KeySet | None]
    typ: tuple[str, ...] = ()
    require: tuple[str, ...] = ("exp", "iat", "iss", "aud", "sub")
    leeway: int = 10
    max_lifetime: int = 86400


class Tokens:
    """Checks tokens of `issuers`. One that was good is remembered for at most a minute, and never past its end.

    `timer` counts seconds, `lock` guards what is remembered.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        timer: Callable[[], float],
        lock: AbstractContextManager[object],
    ) -> None:
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._known: TTLCache[bytes, tuple[Ok, int, str, int]] = TTLCache(_REMEMBERED, REMEMBER_SECONDS, timer)
        self._lock = lock
        self._jwt = {
            issuer.name: jwt.PyJWT({"require": list(issuer.require), "enforce_minimum_key_length": True})
            for issuer in issuers
        }

    def recall(self, text: str, now: int) -> Ok | None:
        """Whose token this is when it was good within the last minute, under the same keys; else `None`."""
        with self._lock:
            known = self._known.get(_mark(text))
        if known is None:
            return None
        ok, end, name, generation = known
        keys = self._issuers[name].snapshot()
        return ok if now < end and keys is not None and keys.generation == generation else None

    def check(self, text: str, now: int) -> Generator[Need, Any, Identified]:
        """Whose token this is. Asks for keys only when those at hand do not have the token's."""
        recalled = self.recall(text, now)
        if recalled is not None:
            return recalled
        try:
            issuer, kid = self._route(text)
        except _BadTokenError as bad:
            return Invalid(str(bad))
        keys = issuer.snapshot()
        if keys is None or kid not in keys.keys:
            try:
                keys = yield NeedKeySet(issuer.name, kid)
            except IdentityUnavailableError as error:
                return Unavailable(str(error), error.retry_after)
        try:
            return self._verified(text, issuer, kid, keys, now)
        except _BadTokenError as bad:
            return Invalid(str(bad))

    def _route(self, text: str) -> tuple[Issuer, str]:
        """Which issuer and key a token claims, from parts that are not believed yet."""
        if len(text) > MAX_TOKEN:
            raise _BadTokenError("too long")
        parts = text.split(".")
        if len(parts) != 3 or not all(_SEGMENT.fullmatch(part) for part in parts):  # noqa: PLR2004 (a JWS)
            raise _BadTokenError("not three parts of base64url")
        header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
        refused = _REFUSED_HEADERS & header.keys()
        if refused:
            raise _BadTokenError(f"its header has {min(refused)}")
        issuer = self._issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if issuer is None:
            raise _BadTokenError("not of a configured issuer")
        if header.get("alg") not in issuer.algorithms:
            raise _BadTokenError("an algorithm that its issuer may not use")
        if issuer.typ and _media(header.get("typ")) not in issuer.typ:
            raise _BadTokenError("not of the demanded type")
        kid = header.get("kid")
        if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
            raise _BadTokenError("no usable kid")
        return issuer, kid

    def _verified(self, text: str, issuer: Issuer, kid: str, keys: KeySet, now: int) -> Ok:
        key = keys.keys.get(kid)
        if key is None:
            raise _BadTokenError("signed with an unknown key")
        try:
            claims: dict[str, Any] = self._jwt[issuer.name].decode(
                text,
                key.public,
                algorithms=[key.algorithm],
                audience=issuer.audience,
                issuer=issuer.name,
                # Time is checked below, against the clock that was handed in.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _BadTokenError(type(error).__name__) from None
        end = _times(claims, issuer, now)
        _shapes(claims)
        ok = Ok(_actor(claims, issuer))
        with self._lock:
            self._known[_mark(text)] = (ok, end, issuer.name, keys.generation)
        return ok


def _mark(text: str) -> bytes:
    """What a token is remembered under: not the token."""
    return sha256(text.encode()).digest()


class _BadTokenError(Exception):
    """Why a token is not good; for the log, not for the caller."""


def _object(part: str, what: str) -> dict[str, Any]:
    """A part of a token as an object without duplicate members."""
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise _BadTokenError(f"its {what} cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise _BadTokenError(f"its {what} is no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a member stands twice"
        raise ValueError(msg)
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _media(typ: object) -> str:
    """A `typ` in the form RFC 7515 section 4.1.9 compares: lower case, without `application/`."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def _times(claims: Mapping[str, Any], issuer: Issuer, now: int) -> int:
    """Check the instants of a token; the one at which it ends, in microseconds."""
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < 2**40):
            raise _BadTokenError(f"{name} is no whole number of seconds")
    leeway = issuer.leeway * _SECOND
    exp, issued = claims.get("exp"), claims.get("iat")
    if exp is None:
        raise _BadTokenError("it never ends")
    if now >= exp * _SECOND + leeway:
        raise _BadTokenError("expired")
    if claims.get("nbf") is not None and now < claims["nbf"] * _SECOND - leeway:
        raise _BadTokenError("not valid yet")
    if issued is not None and now < issued * _SECOND - leeway:
        raise _BadTokenError("issued in the future")
    # Without `iat` what is left of its life is all that can be measured.
    life = (exp - issued) * _SECOND if issued is not None else exp * _SECOND - now - leeway
    if life > issuer.max_lifetime * _SECOND:
        raise _BadTokenError("it lives longer than its issuer may let it")
    return int(exp * _SECOND + leeway)


def _shapes(claims: Mapping[str, Any]) -> None:
    """What the claims must look like before anything is keyed by them."""
    audience, scope = claims.get("aud"), claims.get("scope", "")
    if not _is_name(claims.get("sub")):
        raise _BadTokenError("sub is not 1 to 256 printable characters")
    if isinstance(audience, list) and len(audience) > MAX_AUDIENCES:
        raise _BadTokenError("for too many audiences")
    if not isinstance(scope, str) or not scope.isprintable():
        raise _BadTokenError("scope is no printable text")
    if "cnf" in claims:
        raise _BadTokenError("bound to a key, and presented as a plain bearer")
    for name in ("jti", "sid"):
        if claims.get(name, "") != "" and not _is_name(claims[name]):
            raise _BadTokenError(f"{name} is not printable text of at most 256 characters")


def _is_name(value: object) -> bool:
    """Whether a claim can name somebody or something in limits, receipts and logs."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _actor(claims: Mapping[str, Any], issuer: Issuer) -> Actor:
    """Who a good token speaks for. With `act` (RFC 8693) the outermost one acts, on behalf of the subject."""
    agent, depth = "", 0
    act = claims.get("act")
    while act is not None:
        depth += 1
        if not isinstance(act, dict) or not _is_name(act.get("sub")) or depth > MAX_DEPTH:
            raise _BadTokenError("act is no chain of subjects")
        agent = agent or act["sub"]
        act = act.get("act")
    sub, jti = claims["sub"], claims.get("jti", "")
    return Actor(
        id=f"jwt:{issuer.name}|{sub}",
        tier=Tier.VERIFIED,
        proof="bearer",
        scopes=frozenset(claims.get("scope", "").split()),
        account=sub,
        agent=agent,
        on_behalf_of=sub if agent else "",
        session=claims.get("sid", ""),
        credential=f"jti:{jti}" if jti else "",
        depth=depth,
    )
