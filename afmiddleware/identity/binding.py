"""Tokens that are bound to a key: whoever presents one must hold the key (RFC 9449, RFC 8705).

A bound token that comes as a plain bearer is refused, and so is a plain one that comes as a bound one.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import jwt
import msgspec

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.origins import origin_of
from afmiddleware.identity.certificate import ClientCertificate
from afmiddleware.identity.jose import (
    REFUSED_HEADERS,
    BadCredentialError,
    digest64,
    is_name,
    media_type,
    read_compact,
    thumbprint,
)
from afmiddleware.identity.keyset import read_key
from afmiddleware.identity.needs import Need, NeedOnce
from afmiddleware.model.codes import IDENTITY_NONCE, IDENTITY_PROOF
from afmiddleware.model.http import HttpFacts

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from afmiddleware.identity.nonces import Nonces
    from afmiddleware.identity.origin import Origins

MAX_PROOF: Final = 4096
WINDOW_SECONDS: Final = 60
ALGORITHMS: Final = ("ES256", "ES384", "RS256", "PS256", "EdDSA")
_SECOND: Final = 1_000_000
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CLAIMS: Final = ["jti", "htm", "htu", "iat", "ath"]


class Shown(msgspec.Struct, frozen=True):
    """How a token came: by the scheme `bearer` or `dpop`, with which request, over a connection with a certificate."""

    scheme: str = "bearer"
    facts: HttpFacts | None = None
    certificate: ClientCertificate | None = None


BEARER: Final = Shown()


class Proofs:
    """Checks that a bound token is presented by whoever holds its key.

    `origins` are where the service is reached; without any no DPoP proof is good. With `nonces` a proof must hold one
    that was handed out lately.
    """

    def __init__(self, origins: Origins, nonces: Nonces | None = None) -> None:
        self._origins = origins
        self._nonces = nonces
        self._jwt = jwt.PyJWT({"require": _CLAIMS, "enforce_minimum_key_length": True})

    def check(
        self,
        token: str,
        bound: Mapping[str, str],
        shown: Shown,
        required: str,
        now: int,
    ) -> Generator[Need, Any, None]:
        """Raise `BadCredentialError` unless the token `bound` so may come as it does.

        `required` is what every token of its issuer must be bound by: `none`, `dpop`, `mtls` or `any`.
        """
        names = {"dpop": {"jkt"}, "mtls": {"x5t#S256"}, "any": {"jkt", "x5t#S256"}}.get(required)
        if names is not None and names.isdisjoint(bound):
            raise BadCredentialError("bound to no key, and its issuer's tokens must be")
        certificate = shown.certificate.thumbprint if shown.certificate is not None else ""
        if bound.get("x5t#S256", certificate) != certificate:
            raise BadCredentialError("bound to another client certificate than the connection's")
        jkt = bound.get("jkt")
        if (jkt is None) is not (shown.scheme != "dpop"):
            said = "presented with a proof" if jkt is None else "presented as a plain bearer"
            raise BadCredentialError(f"bound to {'no key' if jkt is None else 'a key'}, and {said}")
        if jkt is not None:
            yield from self._proof(token, jkt, shown.facts, now)

    def _proof(self, token: str, jkt: str, facts: HttpFacts | None, now: int) -> Generator[Need, Any, None]:
        """Check the DPoP proof of a request (RFC 9449 section 4.3), and use it up."""
        lines = facts.all(b"dpop") if facts is not None else []
        if facts is None or len(lines) != 1 or b"," in lines[0]:
            raise BadCredentialError("not exactly one DPoP header", IDENTITY_PROOF)
        text = lines[0].decode("latin-1").strip(" ")
        try:
            claims = self._read(text, jkt)
        except BadCredentialError as error:
            raise BadCredentialError(f"DPoP proof: {error}", IDENTITY_PROOF) from None
        if claims["htm"] != facts.method or not self._is_for(claims["htu"], facts):
            raise BadCredentialError("DPoP proof: for another method or URL", IDENTITY_PROOF)
        issued, jti = claims["iat"], claims["jti"]
        if type(issued) is not int or abs(now - issued * _SECOND) > WINDOW_SECONDS * _SECOND:
            raise BadCredentialError("DPoP proof: not made just now", IDENTITY_PROOF)
        if claims["ath"] != digest64(token.encode("ascii")):
            raise BadCredentialError("DPoP proof: for another token", IDENTITY_PROOF)
        if self._nonces is not None and not self._nonces.good(claims.get("nonce"), now):
            raise BadCredentialError(
                "DPoP proof: without a nonce of ours", IDENTITY_NONCE, nonce=self._nonces.fresh(now)
            )
        if not is_name(jti):
            raise BadCredentialError("DPoP proof: its jti is not printable text", IDENTITY_PROOF)
        # It is good until a minute after it was made; its id is kept a little longer.
        keep = (issued + WINDOW_SECONDS + 1) * _SECOND - now
        used = sha256(f"{jkt} {jti}".encode()).hexdigest()
        if not (yield NeedOnce(f"dpop:{used}", max(keep, _SECOND))):
            raise BadCredentialError("DPoP proof: used before", IDENTITY_PROOF)

    def _read(self, text: str, jkt: str) -> dict[str, Any]:
        """The claims of a proof that the key with the thumbprint `jkt` has signed."""
        header, _ = read_compact(text, MAX_PROOF)
        if media_type(header.get("typ")) != "dpop+jwt":
            raise BadCredentialError("not of the type dpop+jwt")
        refused = (REFUSED_HEADERS - {"jwk"}) & header.keys()
        if refused:
            raise BadCredentialError(f"its header has {min(refused)}")
        jwk, algorithm = header.get("jwk"), header.get("alg")
        if algorithm not in ALGORITHMS:
            raise BadCredentialError("an algorithm that is not accepted")
        key = read_key(jwk, (algorithm,))
        if isinstance(key, str) or not isinstance(jwk, dict):
            raise BadCredentialError(f"its key: {key}" if isinstance(key, str) else "its key is no object")
        if thumbprint(jwk) != jkt:
            raise BadCredentialError("signed with another key than the token is bound to")
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
        try:
            claims: dict[str, Any] = self._jwt.decode(text, key.public, algorithms=[algorithm], options=options)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise BadCredentialError(type(error).__name__) from None
        return claims

    def _is_for(self, htu: object, facts: HttpFacts) -> bool:
        """Whether a URL, without query and fragment, is that of the request."""
        origin = self._origins.of(facts)
        if origin is None or not isinstance(htu, str):
            return False
        try:
            parts = urlsplit(htu)
            if origin_of(f"{parts.scheme}://{parts.netloc}") != origin:
                return False
        except (ValueError, GrammarError):
            return False
        path = parts.path or "/"
        if facts.raw_path is None:
            # A server that does not keep the path as sent has decoded it once.
            return unquote(path, errors="replace") == facts.path
        return _normal(path) == _normal(facts.raw_path.decode("latin-1"))


def _normal(path: str) -> str:
    """A path with what need not be escaped unescaped, and the other escapes in capitals (RFC 3986 section 6.2.2)."""
    return _ESCAPE.sub(_unescaped, path)


def _unescaped(match: re.Match[str]) -> str:
    text = match.group(0)
    byte = unquote_to_bytes(text).decode("latin-1")
    return byte if byte.isascii() and (byte.isalnum() or byte in "-._~") else text.upper()
