"""The keys of an agent: what is usable of its directory (draft-meunier-http-message-signatures-directory).

A key is known by its RFC 7638 thumbprint, computed here; whatever else a directory calls it means nothing.
"""

from __future__ import annotations

from typing import Any, Final

from afmiddleware.identity.jose import thumbprint
from afmiddleware.identity.keyset import KeySet, read_keyset

WELL_KNOWN: Final = "/.well-known/http-message-signatures-directory"
"""Where an agent publishes its keys, under its origin."""

ALGORITHMS: Final = ("EdDSA", "ES256", "ES384", "PS512")
"""The algorithms of keys, as a JWKS calls them: each key signs with one of them and no other."""

_TEST_KEYS: Final = frozenset(
    {
        "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U",
        "oD0HwocPBSfpNy5W3bpJeyFGY_IQ_YpqxSjQ3Yd-CLA",
    },
)
"""The keys of RFC 9421, whose private halves everybody can read there."""


def read_directory(document: object, generation: int = 0, *, test_keys: bool = False) -> KeySet:
    """The keys of a parsed directory by their thumbprints.

    What `read_keyset` leaves out is left out here, and so are the keys of RFC 9421, unless `test_keys`. Raises
    `ValueError` when it is no JWKS at all.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return read_keyset(document, ALGORITHMS, generation)
    named = [_named(jwk) for jwk in listed]
    # A directory may list a key once for each of its periods; the last one stands.
    known = {jwk["kid"]: jwk for jwk in named if isinstance(jwk, dict) and isinstance(jwk.get("kid"), str)}
    unread = [jwk for jwk in named if not (isinstance(jwk, dict) and isinstance(jwk.get("kid"), str))]
    found = read_keyset({"keys": [*known.values(), *unread]}, ALGORITHMS, generation)
    keys, dropped = dict(found.keys), list(found.dropped)
    for name in keys.keys() & _TEST_KEYS if not test_keys else ():
        del keys[name]
        dropped.append(f"key {name}: it is a test key of RFC 9421, which anybody can sign with")
    return KeySet(keys, generation, tuple(dropped))


def _named(jwk: Any) -> Any:
    if not isinstance(jwk, dict):
        return jwk
    try:
        name = thumbprint(jwk)
    except ValueError:
        return {member: value for member, value in jwk.items() if member != "kid"}
    # RFC 9864 has its own name for the same algorithm.
    alg = {"alg": "EdDSA"} if jwk.get("alg") == "Ed25519" else {}
    return {**jwk, **alg, "kid": name}
