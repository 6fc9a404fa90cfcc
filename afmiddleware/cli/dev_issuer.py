"""An issuer of tokens for development: its public keys are the policy's `jwks_file`, its private one beside it."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.config.identity_schema import Issuer
    from afmiddleware.config.schema import Config

_CURVES: Final = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}


class DevIssuer(msgspec.Struct, frozen=True):
    """An issuer at hand, with its private JWK."""

    issuer: str
    audience: str
    typ: str
    algorithm: str
    jwk: dict[str, Any]

    def mint(self, sub: str, seconds: int, claims: dict[str, Any], now: int) -> str:
        """A token of `sub`, good for `seconds` from `now` on (seconds since the epoch)."""
        usual = {"iss": self.issuer, "aud": self.audience, "sub": sub, "iat": now, "exp": now + seconds}
        more = {"jti": secrets.token_urlsafe(12), "client_id": "development"}
        key = jwt.PyJWK(self.jwk, self.algorithm)
        headers = {"kid": self.jwk["kid"], "typ": self.typ}
        return jwt.PyJWT().encode(usual | more | claims, key.key, algorithm=self.algorithm, headers=headers)


def issuer_at(config: Config, wanted: str) -> Issuer:
    """The issuer of a policy called `wanted`, or the only one. Raises `ValueError`."""
    issuers = config.identity.jwt.issuers if config.identity.jwt is not None else ()
    found = [entry for entry in issuers if wanted in ("", entry.issuer)]
    if len(found) != 1:
        names = ", ".join(entry.issuer for entry in issuers) or "none"
        msg = f"{'no issuer of the policy is ' + wanted if wanted else 'name one with --issuer'}; it has {names}"
        raise ValueError(msg)
    return found[0]


def dev_issuer(config: Config, base: Path, wanted: str) -> DevIssuer:
    """The issuer whose keys are in a file; makes the file and its private key when there is neither.

    Raises `ValueError` for an issuer whose keys are elsewhere, or were not made here.
    """
    issuers = config.identity.jwt.issuers if config.identity.jwt is not None else ()
    local = [entry for entry in issuers if entry.jwks_file is not None]
    if wanted:
        entry = issuer_at(config, wanted)
    elif len(local) == 1:
        entry = local[0]
    else:
        several = f"several issuers have a jwks_file: {', '.join(one.issuer for one in local)}; name one with --issuer"
        none = (
            "tokens are made for an issuer whose keys are in a file; "
            "add one under identity: jwt: issuers: with jwks_file: dev-jwks.json"
        )
        raise ValueError(several if local else none)
    if entry.jwks_file is None:
        kept = "stand in the policy itself" if entry.jwks is not None else "are fetched"
        msg = f"no token can be made for {entry.issuer}, whose keys {kept}; name one with jwks_file: dev-jwks.json"
        raise ValueError(msg)
    public = base / (entry.jwks_file or "")
    private = public.with_name(f"{public.name}.private")
    algorithm = entry.algorithms[0]
    if not private.exists():
        if public.exists():
            msg = f"{public} was not made here: its private key is not at {private}"
            raise ValueError(msg)
        _make(public, private, algorithm)
    jwk = msgspec.json.decode(private.read_bytes())
    typ = entry.typ[0] if entry.typ else "JWT"
    return DevIssuer(entry.issuer, entry.audience, typ, jwk["alg"], jwk)


def _make(public: Path, private: Path, algorithm: str) -> None:
    key: Any
    if algorithm in _CURVES:
        key = ec.generate_private_key(_CURVES[algorithm]())
    elif algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    to_jwk = get_default_algorithms()[algorithm].to_jwk
    named = {"kid": f"dev-{secrets.token_hex(4)}", "alg": algorithm}
    shown = {name: value for name, value in json.loads(to_jwk(key.public_key())).items() if name != "key_ops"}
    hidden = {name: value for name, value in json.loads(to_jwk(key)).items() if name != "key_ops"}
    private.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode({**hidden, **named}))
    public.write_bytes(msgspec.json.encode({"keys": [{**shown, **named, "use": "sig"}]}))
