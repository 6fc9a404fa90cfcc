"""Of a JWKS document only those keys are used that can do nothing but verify this issuer's signatures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from afmiddleware.identity.keyset import read_keyset

ALL = ("RS256", "ES256", "ES384", "EdDSA")


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    maker: Any = OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        maker = RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        maker = ECAlgorithm
    return {"kid": "k", **json.loads(maker.to_jwk(key)), **members}


EC = ec.generate_private_key(ec.SECP256R1())
P256 = jwk(EC.public_key())
P384 = jwk(ec.generate_private_key(ec.SECP384R1()).public_key())
ED25519 = jwk(ed25519.Ed25519PrivateKey.generate().public_key())
RSA = rsa.generate_private_key(65537, 2048)
RSA_2048 = jwk(RSA.public_key())
WEAK = jwk(rsa.generate_private_key(65537, 1024).public_key())  # noqa: S505 (that is the point)
HUGE = {**RSA_2048, "n": "A".join(["_" * 100] * 14)}

GOOD: dict[str, tuple[dict[str, Any], str]] = {
    "P-256": (P256, "ES256"),
    "P-256 named": ({**P256, "alg": "ES256"}, "ES256"),
    "P-384": (P384, "ES384"),
    "Ed25519": (ED25519, "EdDSA"),
    "RSA": (RSA_2048, "RS256"),
    "RSA named": ({**RSA_2048, "alg": "RS256"}, "RS256"),
    "for signatures": ({**P256, "use": "sig", "key_ops": ["verify"]}, "ES256"),
    "unknown members": ({**P256, "x5t": "x", "more": {}}, "ES256"),
}


@pytest.mark.parametrize(("key", "algorithm"), GOOD.values(), ids=GOOD)
def test_a_usable_key_is_bound_to_one_algorithm(key, algorithm):
    found = read_keyset({"keys": [key]}, ALL)
    assert found.dropped == ()
    assert found.keys["k"].algorithm == algorithm
    assert found.keys["k"].public.algorithm_name == algorithm


BAD: dict[str, Any] = {
    "symmetric": {"kty": "oct", "kid": "k", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
    "symmetric, said to be EC": {**P256, "kty": "oct"},
    "private EC": jwk(EC),
    "private RSA": jwk(RSA),
    "one private member": {**RSA_2048, "dp": "AQ"},
    "a secret member": {**P256, "k": "AQ"},
    "for encryption": {**P256, "use": "enc"},
    "for nothing": {**P256, "use": ""},
    "for null": {**P256, "use": None},
    "to sign": {**P256, "key_ops": ["sign"]},
    "to wrap": {**RSA_2048, "key_ops": ["wrapKey"]},
    "operations a text": {**P256, "key_ops": "verify"},
    "operations null": {**P256, "key_ops": None},
    "operations a number": {**P256, "key_ops": 1},
    "no id": {name: value for name, value in P256.items() if name != "kid"},
    "id empty": {**P256, "kid": ""},
    "id a number": {**P256, "kid": 1},
    "id a list": {**P256, "kid": ["k"]},
    "id too long": {**P256, "kid": "k" * 129},
    "another algorithm": {**P256, "alg": "ES384"},
    "HMAC": {**P256, "alg": "HS256"},
    "none": {**P256, "alg": "none"},
    "algorithm a list": {**P256, "alg": ["ES256"]},
    "RSA said to be EC": {**RSA_2048, "alg": "ES256"},
    "RSA for encryption": {**RSA_2048, "alg": "RSA-OAEP"},
    "RSA under an algorithm not allowed": {**RSA_2048, "alg": "RS512"},
    "RSA of 1024 bits": WEAK,
    "RSA of 8400 bits": HUGE,
    "P-521": jwk(ec.generate_private_key(ec.SECP521R1()).public_key()),
    "secp256k1": jwk(ec.generate_private_key(ec.SECP256K1()).public_key()),
    "Ed448": jwk(ed448.Ed448PrivateKey.generate().public_key()),
    "X25519": {**ED25519, "crv": "X25519"},
    "a curve of another type": {**P256, "kty": "OKP"},
    "another curve of its type": {**P256, "crv": "P-384"},
    "not on the curve": {**P256, "y": P256["x"]},
    "half a point": {**P256, "x": P256["x"][:20]},
    "no type": {name: value for name, value in P256.items() if name != "kty"},
    "type a map": {**P256, "kty": {}},
    "a list": [],
    "a text": "key",
    "null": None,
}


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_any_other_key_is_left_out_and_the_rest_works(key):
    rest = {**P384, "kid": "rest"}
    found = read_keyset({"keys": [key, rest]}, ALL)
    assert list(found.keys) == ["rest"]
    assert len(found.dropped) == 1
    assert found.dropped[0].startswith("key 1: ")


def test_what_is_left_out_is_told_without_the_key():
    for key in BAD.values():
        (reason,) = read_keyset({"keys": [key]}, ALL).dropped
        values = key.values() if isinstance(key, dict) else ()
        assert not any(isinstance(value, str) and len(value) > 8 and value in reason for value in values)


def test_an_unnamed_rsa_key_is_used_when_only_one_algorithm_fits():
    assert read_keyset({"keys": [RSA_2048]}, ("PS256", "ES256")).keys["k"].algorithm == "PS256"
    assert read_keyset({"keys": [RSA_2048]}, ("RS256", "PS256")).keys == {}
    assert read_keyset({"keys": [RSA_2048]}, ()).keys == {}


@pytest.mark.parametrize("times", [2, 3, 4])
def test_an_id_that_stands_twice_is_nobody_s(times):
    found = read_keyset({"keys": [{**P256}] * times + [{**P384, "kid": "rest"}]}, ALL)
    assert list(found.keys) == ["rest"]
    assert len(found.dropped) == times - 1


def test_the_33rd_key_is_left_out():
    found = read_keyset({"keys": [{**P256, "kid": f"k{number}"} for number in range(34)]}, ALL)
    assert list(found.keys) == [f"k{number}" for number in range(32)]
    assert found.dropped == ("key 33: there are more than 32 keys", "key 34: there are more than 32 keys")


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": {}}, {"keys": None}, {"keys": "k"}, {"KEYS": []}])
def test_what_is_no_jwks_is_refused(document):
    with pytest.raises(ValueError, match="no list called keys"):
        read_keyset(document, ALL)


VALUE: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=3), max_size=2)
    | st.just({})
)


@given(
    st.sampled_from([P256, ED25519, RSA_2048]),
    st.dictionaries(st.sampled_from([*P256, *RSA_2048, "alg", "use"]), VALUE),
)
def test_no_key_makes_it_stumble(key, changes):
    found = read_keyset({"keys": [{**key, **changes}]}, ALL)
    assert len(found.keys) + len(found.dropped) == 1
