"""What an issuer vouches for, as an actor: the claims of a signed token (RFC 7519), or of an introspected one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.identity.jose import MAX_TEXT, BadCredentialError, is_name
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH: Final = 4
MAX_AUDIENCES: Final = 8
MAX_LISTED: Final = 256
_SECOND: Final = 1_000_000
_MISSING: Final = object()


class ClaimNames(msgspec.Struct, frozen=True, kw_only=True):
    """Which claim says what. A name is that of a claim, or a path of names joined by dots (`realm_access.roles`).

    Without `act` (RFC 8693) the claim `agent`, if named, says who acts on behalf of the subject.
    """

    account: str = "sub"
    agent: str = ""
    session: str = "sid"
    scopes: str = "scope"
    roles: str = "roles"
    tenant: str = ""


def check_times(claims: Mapping[str, Any], leeway: int, max_lifetime: int, now: int) -> int:
    """Check the instants of a token; the one at which it ends. `now` and that are in microseconds, the rest seconds.

    Raises `BadCredentialError`.
    """
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < 2**40):
            raise BadCredentialError(f"{name} is no whole number of seconds")
    slack = leeway * _SECOND
    exp, issued = claims.get("exp"), claims.get("iat")
    if exp is None:
        raise BadCredentialError("it never ends")
    if now >= exp * _SECOND + slack:
        raise BadCredentialError("expired")
    if claims.get("nbf") is not None and now < claims["nbf"] * _SECOND - slack:
        raise BadCredentialError("not valid yet")
    if issued is not None and now < issued * _SECOND - slack:
        raise BadCredentialError("issued in the future")
    # Without `iat` what is left of its life is all that can be measured.
    life = (exp - issued) * _SECOND if issued is not None else exp * _SECOND - now - slack
    if life > max_lifetime * _SECOND:
        raise BadCredentialError("it lives longer than its issuer may let it")
    return int(exp * _SECOND + slack)


def confirmation(claims: Mapping[str, Any]) -> Mapping[str, str]:
    """What a token is bound to (RFC 7800): `jkt` (RFC 9449), `x5t#S256` (RFC 8705), or nothing.

    Raises `BadCredentialError` for a binding of a kind that cannot be checked here.
    """
    if "cnf" not in claims:
        return {}
    found = claims["cnf"]
    if not isinstance(found, dict) or not found or not found.keys() <= {"jkt", "x5t#S256"}:
        raise BadCredentialError("bound to a key in a way that is not known")
    if not all(is_name(value) for value in found.values()):
        raise BadCredentialError("bound to a key that is not named")
    return found


def actor_of(claims: Mapping[str, Any], issuer: str, names: ClaimNames, tier: Tier) -> Actor:
    """Who a good token of `issuer` speaks for. With `act` the outermost one acts, on behalf of the subject.

    Raises `BadCredentialError` when a claim has not the shape of what it says.
    """
    sub, jti, bound = claims.get("sub"), claims.get("jti", ""), confirmation(claims)
    if not isinstance(sub, str) or not is_name(sub):
        raise BadCredentialError(f"sub is not 1 to {MAX_TEXT} printable characters")
    if jti != "" and not is_name(jti):
        raise BadCredentialError(f"jti is not printable text of at most {MAX_TEXT} characters")
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) > MAX_AUDIENCES:
        raise BadCredentialError("for too many audiences")
    agent, depth = _acting(claims.get("act"))
    if not depth and names.agent:
        agent = _text(claims, names.agent)
        agent, depth = ("", 0) if agent == sub else (agent, int(bool(agent)))
    return Actor(
        id=f"jwt:{issuer}|{sub}",
        tier=tier,
        proof="possession" if bound else "bearer",
        scopes=_listed(claims, names.scopes),
        roles=_listed(claims, names.roles),
        account=_text(claims, names.account),
        agent=agent,
        on_behalf_of=sub if agent else "",
        tenant=_text(claims, names.tenant),
        session=_text(claims, names.session),
        credential=f"jti:{jti}" if jti else "",
        depth=depth,
    )


def _acting(act: Any) -> tuple[str, int]:
    """Who acts, and how many stand in the chain."""
    agent, depth = "", 0
    while act is not None:
        depth += 1
        if not isinstance(act, dict) or not is_name(act.get("sub")) or depth > MAX_DEPTH:
            raise BadCredentialError("act is no chain of subjects")
        agent = agent or act["sub"]
        act = act.get("act")
    return agent, depth


def _at(claims: Mapping[str, Any], path: str) -> Any:
    if not path or path in claims:
        return claims[path] if path else _MISSING
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return _MISSING
        found = found[name]
    return found


def _text(claims: Mapping[str, Any], path: str) -> str:
    found = _at(claims, path)
    if found is _MISSING or found == "":
        return ""
    if not is_name(found):
        raise BadCredentialError(f"{path} is not printable text of at most {MAX_TEXT} characters")
    return str(found)


def _listed(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Words separated by spaces (RFC 6749 section 3.3), a list of texts, or one of `{value: text}` (RFC 9068).

    The claim `scope` itself is never a list (RFC 8693 section 4.2).
    """
    found = _at(claims, path)
    if found is _MISSING:
        return frozenset()
    if isinstance(found, str) and found.isprintable():
        found = found.split()
    elif isinstance(found, list) and path != "scope":
        found = [one.get("value") if isinstance(one, dict) else one for one in found]
    else:
        raise BadCredentialError(f"{path} is neither printable text nor a list")
    if len(found) > MAX_LISTED or not all(is_name(one) for one in found):
        raise BadCredentialError(f"{path} holds too much, or what is no printable text")
    return frozenset(str(one) for one in found)
