"""Tokens that only their issuer can read: it is asked whether one is good (RFC 7662), and for whom."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from cachetools import LRUCache, TTLCache

from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError
from afmiddleware.identity.binding import BEARER, Proofs, Shown
from afmiddleware.identity.claims import ClaimNames, actor_of, check_times, confirmation
from afmiddleware.identity.jose import BadCredentialError
from afmiddleware.identity.needs import Need, NeedIntrospection
from afmiddleware.identity.outcome import Identified, Invalid, Ok, Unavailable
from afmiddleware.identity.revocations import check_standing, marks_of
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from afmiddleware.identity.revocations import Revocations

REFUSED_SECONDS: Final = 5.0
MAX_LIFETIME: Final = 366 * 86_400
_REMEMBERED: Final = 10_000
_SECOND: Final = 1_000_000


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Whose word is taken for a token, and what it has to say.

    `issuer` names it, as in the tokens that it signs. With an `audience` a token must be for it. `fresh` is for how
    many seconds a good answer is believed.
    """

    issuer: str
    audience: str = ""
    claims: ClaimNames = ClaimNames()
    tier: Tier = Tier.TOKEN
    fresh: int = 30
    leeway: int = 10
    binding: str = "none"


class _Known(NamedTuple):
    ok: Ok
    end: int
    bound: Mapping[str, str]
    marks: tuple[tuple[str, int], ...]


class Introspection:
    """Checks opaque tokens. Answers are remembered for a while, good ones never past the token's end.

    `timer` counts seconds, `lock` guards what is remembered.
    """

    def __init__(
        self,
        asking: Asking,
        timer: Callable[[], float],
        lock: AbstractContextManager[object],
        *,
        revoked: Revocations | None = None,
        proofs: Proofs,
    ) -> None:
        self._asking = asking
        self._good: TTLCache[bytes, _Known] = TTLCache(_REMEMBERED, asking.fresh, timer)
        # Who was good once is asked about however much is guessed from where it comes.
        self._seen: LRUCache[bytes, bool] = LRUCache(_REMEMBERED)
        self._bad: TTLCache[bytes, bool] = TTLCache(_REMEMBERED, REFUSED_SECONDS, timer)
        self._lock = lock
        self._revoked = revoked
        self._proofs = proofs

    def check(self, text: str, now: int, shown: Shown = BEARER) -> Generator[Need, Any, Identified]:
        """Whose token this is. Asks its issuer when it was not asked lately."""
        mark = sha256(text.encode("ascii")).digest()
        with self._lock:
            known, bad, seen = self._good.get(mark), mark in self._bad, mark in self._seen
        try:
            if known is None or now >= known.end:
                if bad:
                    return Invalid("a token that its issuer does not know", guess=True)
                known = self._read((yield NeedIntrospection(text, seen)), now)
                if known is None:
                    with self._lock:
                        self._bad[mark] = True
                    return Invalid("a token that its issuer does not know", guess=True)
                with self._lock:
                    self._good[mark] = known
                    self._seen[mark] = True
            yield from check_standing(self._revoked, known.marks)
            yield from self._proofs.check(text, known.bound, shown, self._asking.binding, now)
        except BadCredentialError as error:
            return Invalid(str(error), error.code, nonce=error.nonce)
        except (IdentityUnavailableError, LedgerUnavailableError) as error:
            return Unavailable(str(error), error.retry_after)
        return known.ok

    def _read(self, answer: Any, now: int) -> _Known | None:
        """What an answer says of a token, `None` when it is not active. Raises as `check` handles."""
        asking = self._asking
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise IdentityUnavailableError(f"{asking.issuer} does not answer what RFC 7662 says")
        if not answer["active"]:
            return None
        claims = {**answer, "sub": answer.get("sub", answer.get("client_id"))}
        if claims.get("iss", asking.issuer) != asking.issuer:
            raise BadCredentialError("of another issuer")
        audience = claims.get("aud")
        if asking.audience and asking.audience not in (audience if isinstance(audience, list) else [audience]):
            raise BadCredentialError("for another audience")
        if claims.get("exp") is None:
            claims["exp"] = now // _SECOND + asking.fresh
        end = check_times({**claims, "iat": None}, asking.leeway, MAX_LIFETIME, now)
        ok = Ok(actor_of(claims, asking.issuer, asking.claims, asking.tier))
        return _Known(ok, end, confirmation(claims), marks_of(claims, asking.issuer, ""))
