"""JSON Web Tokens (RFC 7519) of configured issuers, and nothing else that looks like one.

PyJWT checks signature and claims; what it leaves open is checked here and in `claims.py`: the header before anything is
trusted, the shape of the claims, duplicate members, lifetimes (RFC 8725 throughout), what was revoked, and bindings
that a plain bearer cannot satisfy.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jwt
import msgspec

from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError
from afmiddleware.identity.binding import BEARER, Proofs, Shown
from afmiddleware.identity.claims import ClaimNames, actor_of, check_times, confirmation
from afmiddleware.identity.jose import MAX_TOKEN, REFUSED_HEADERS, BadCredentialError, media_type, read_compact
from afmiddleware.identity.needs import Need, NeedKeySet
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.outcome import Identified, Invalid, Ok, Unavailable
from afmiddleware.identity.recent import Recent
from afmiddleware.identity.revocations import Revocations, check_standing, marks_of
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from afmiddleware.identity.keyset import KeySet

__all__ = ["MAX_TOKEN", "Issuer", "Tokens"]

REMEMBER_SECONDS: Final = 60
_REMEMBERED: Final = 5_000
_KID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}", re.ASCII)


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer whose tokens are believed. `snapshot` gives its keys as last read, without waiting.

    `binding` is what every token must be bound by: `none`, `dpop`, `mtls` or `any`. With `strict_audience` a token is
    for `audience` alone; with `missing_kid` one without a key id is good while its issuer has one key only.
    """

    name: str
    audience: str
    algorithms: tuple[str, ...]
    snapshot: Callable[[], KeySet | None]
    typ: tuple[str, ...] = ()
    require: tuple[str, ...] = ("exp", "iat", "iss", "aud", "sub")
    leeway: int = 10
    max_lifetime: int = 86400
    claims: ClaimNames = ClaimNames()
    tier: Tier = Tier.VERIFIED
    binding: str = "none"
    strict_audience: bool = False
    missing_kid: bool = False


class _Known(NamedTuple):
    """A token that was good, and all that may change that: its `end`, its issuer's keys, what is revoked."""

    ok: Ok
    end: int
    issuer: Issuer
    generation: int
    bound: Mapping[str, str]
    marks: tuple[tuple[str, int], ...]


class Tokens:
    """Checks tokens of `issuers`. One that was good is remembered for at most a minute, and never past its end.

    `timer` counts seconds. `revoked` is what was taken back, `proofs` looks after tokens that are bound to a key. A
    token has at most `longest` characters.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        timer: Callable[[], float],
        *,
        revoked: Revocations | None = None,
        proofs: Proofs | None = None,
        longest: int = MAX_TOKEN,
    ) -> None:
        self._longest = longest
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._known: Recent[bytes, _Known] = Recent(_REMEMBERED, REMEMBER_SECONDS, timer)
        self._revoked = revoked
        self._proofs = proofs or Proofs(Origins(()))
        self._jwt = {
            issuer.name: jwt.PyJWT({"require": list(issuer.require), "enforce_minimum_key_length": True})
            for issuer in issuers
        }

    def recall(self, text: str, now: int) -> Ok | None:
        """Whose token this is when it was good within the last minute, under the same keys; else `None`."""
        known = self._known.get(sha256(text.encode()).digest())
        if known is None:
            return None
        ok, end, issuer, generation, bound, marks = known
        if now >= end or bound or issuer.binding != "none":
            return None
        keys, revoked = issuer.snapshot(), self._revoked
        if keys is None or keys.generation != generation:
            return None
        return None if revoked is not None and (revoked.due or revoked.strikes(marks)) else ok

    def check(self, text: str, now: int, shown: Shown = BEARER) -> Generator[Need, Any, Identified]:
        """Whose token this is. Asks for keys only when those at hand do not have the token's."""
        try:
            known = self._recalled(text, now) or (yield from self._read(text, now))
            yield from check_standing(self._revoked, known.marks)
            yield from self._proofs.check(text, known.bound, shown, known.issuer.binding, now)
        except BadCredentialError as bad:
            return Invalid(str(bad), bad.code, nonce=bad.nonce)
        except (IdentityUnavailableError, LedgerUnavailableError) as error:
            return Unavailable(str(error), error.retry_after)
        return known.ok

    def _recalled(self, text: str, now: int) -> _Known | None:
        known = self._known.get(sha256(text.encode()).digest())
        if known is None or now >= known.end:
            return None
        keys = known.issuer.snapshot()
        return known if keys is not None and keys.generation == known.generation else None

    def _read(self, text: str, now: int) -> Generator[Need, Any, _Known]:
        issuer, kid = self._route(text)
        keys = issuer.snapshot()
        if keys is None or (kid not in keys.keys and (kid or len(keys.keys) != 1)):
            keys = yield NeedKeySet(issuer.name, kid)
        return self._verified(text, issuer, kid, keys, now)

    def _route(self, text: str) -> tuple[Issuer, str]:
        """Which issuer and key a token claims, from parts that are not believed yet."""
        header, claims = read_compact(text, self._longest)
        refused = REFUSED_HEADERS & header.keys()
        if refused:
            raise BadCredentialError(f"its header has {min(refused)}")
        issuer = self._issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if issuer is None:
            raise BadCredentialError("not of a configured issuer")
        if header.get("alg") not in issuer.algorithms:
            raise BadCredentialError("an algorithm that its issuer may not use")
        if issuer.typ and media_type(header.get("typ")) not in issuer.typ:
            raise BadCredentialError("not of the demanded type")
        if "kid" not in header and issuer.missing_kid:
            return issuer, ""
        kid = header.get("kid")
        if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
            raise BadCredentialError("no usable kid")
        return issuer, kid

    def _verified(self, text: str, issuer: Issuer, kid: str, keys: KeySet, now: int) -> _Known:
        if not kid and len(keys.keys) == 1:
            kid = next(iter(keys.keys))
        key = keys.keys.get(kid)
        if key is None or not key.is_good(now):
            raise BadCredentialError("signed with an unknown key")
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
            raise BadCredentialError(type(error).__name__) from None
        if issuer.strict_audience and claims["aud"] not in (issuer.audience, [issuer.audience]):
            raise BadCredentialError("for other audiences too")
        end = check_times(claims, issuer.leeway, issuer.max_lifetime, now)
        ok = Ok(actor_of(claims, issuer.name, issuer.claims, issuer.tier))
        known = _Known(ok, end, issuer, keys.generation, confirmation(claims), marks_of(claims, issuer.name, kid))
        # What a token is remembered under is not the token.
        self._known.put(sha256(text.encode()).digest(), known)
        return known
