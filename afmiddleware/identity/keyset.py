"""The signing keys of an issuer: what is usable of a JWKS document (RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_KEYS: Final = 32
MAX_KID: Final = 128
_SECRET_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}
_SECOND: Final = 1_000_000
_FAR: Final = 2**40
_RSA_BITS: Final = range(2048, 8193)


class Key(msgspec.Struct, frozen=True):
    """A public key bound to one algorithm, for a time: both ends are seconds since the epoch, 0 for none."""

    algorithm: str
    public: jwt.PyJWK
    begins: int = 0
    ends: int = 0

    def is_good(self, now: int) -> bool:
        """Whether its time has come and is not over at `now`, in microseconds since the epoch."""
        return self.begins * _SECOND <= now and (not self.ends or now < self.ends * _SECOND)


class KeySet(msgspec.Struct, frozen=True):
    """The usable keys of a document by key id, and why others were left out (for the log).

    `generation` differs for every document read, so that what was decided under an older one can be told.
    """

    keys: Mapping[str, Key]
    generation: int = 0
    dropped: tuple[str, ...] = ()


def read_keyset(document: object, algorithms: Collection[str], generation: int = 0) -> KeySet:
    """The keys of a parsed JWKS document that may sign under `algorithms`.

    Left out are symmetric and private keys, keys for encryption, keys without an id or with one that stands twice, weak
    or huge RSA keys, other curves, and what comes after the 32nd. Raises `ValueError` when it is no JWKS at all.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        msg = "the document has no list called keys, so it is no JWKS"
        raise ValueError(msg)  # noqa: TRY004 (a wrong document, not a wrong call)
    keys: dict[str, Key] = {}
    twice: set[str] = set()
    dropped: list[str] = []
    for place, jwk in enumerate(listed):
        found = "there are more than 32 keys" if place >= MAX_KEYS else _usable(jwk, algorithms)
        if isinstance(found, str):
            dropped.append(f"key {place + 1}: {found}")
        elif (kid := jwk["kid"]) in keys or kid in twice:
            twice.add(kid)
            keys.pop(kid, None)
            dropped.append(f"key {place + 1}: its id stands twice")
        else:
            keys[kid] = found
    return KeySet(keys, generation, tuple(dropped))


def _usable(jwk: Any, algorithms: Collection[str]) -> Key | str:
    """The key, or why it cannot be used."""
    kid = jwk.get("kid") if isinstance(jwk, dict) else ""
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        return "no usable kid" if isinstance(jwk, dict) else "not an object"
    return read_key(jwk, algorithms)


def read_key(jwk: Any, algorithms: Collection[str]) -> Key | str:
    """A public JWK that may verify signatures under one of `algorithms`, or why it may not (for the log)."""
    if not isinstance(jwk, dict):
        return "not an object"
    if jwk.get("kty") == "oct" or any(member in jwk for member in _SECRET_MEMBERS):
        return "it is secret: only public keys belong in a JWKS"
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return "it is not for verifying signatures"
    begins, ends = jwk.get("nbf", 0), jwk.get("exp", 0)
    if not all(type(at) is int and 0 <= at < _FAR for at in (begins, ends)):
        return "its nbf or exp is no whole number of seconds"
    algorithm = _algorithm(jwk, algorithms)
    if algorithm is None:
        return "no algorithm that this issuer may use"
    try:
        public = jwt.PyJWK({name: value for name, value in jwk.items() if name != "alg"}, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        return f"it cannot be read ({type(error).__name__})"
    if isinstance(public.key, RSAPublicKey):
        good = public.key.key_size in _RSA_BITS
        return Key(algorithm, public, begins, ends) if good else f"RSA with {public.key.key_size} bits"
    if isinstance(public.key, (EllipticCurvePublicKey, Ed25519PublicKey)):
        return Key(algorithm, public, begins, ends)
    return "not a public key"


def _algorithm(jwk: Mapping[str, Any], algorithms: Collection[str]) -> str | None:
    """The one algorithm a key may be used with."""
    kty, named = jwk.get("kty"), jwk.get("alg")
    if kty == "RSA":
        fitting = [name for name in algorithms if name.startswith(("RS", "PS"))]
    else:
        curve = jwk.get("crv")
        fitting = [name for name in algorithms if isinstance(curve, str) and name == _CURVES.get(curve)]
    if named is not None:
        return named if named in fitting else None
    return fitting[0] if len(fitting) == 1 else None
