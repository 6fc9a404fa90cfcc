"""Tokens that borrow a key, an issuer or a spelling that is not theirs."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from afmiddleware.identity.keyset import read_keyset
from afmiddleware.identity.needs import NeedKeySet
from afmiddleware.identity.outcome import Invalid, Ok
from afmiddleware.identity.tokens import Issuer, Tokens
from afmiddleware.testing import TestIssuer, mint_es256_issuer
from tests.unit.identity.conftest import Desk, Keys, Timer, encoded, part, sealed, settled

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256."""


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


SECRETS: dict[str, Callable[[rsa.RSAPublicKey], bytes]] = {
    "PEM": pem,
    "PEM without its last line break": lambda key: pem(key).rstrip(),
    "PKCS 1": lambda key: key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
    "DER": lambda key: key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "SSH": lambda key: key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "JWK": lambda key: RSAAlgorithm.to_jwk(key).encode(),
    "modulus": lambda key: str(json.loads(RSAAlgorithm.to_jwk(key))["n"]).encode(),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_a_public_rsa_key_is_no_secret(rsa_key, secret, name):
    public = rsa_key.public_key()
    jwk = {**json.loads(RSAAlgorithm.to_jwk(public)), "kid": "r"}
    for algorithms in (("RS256",), ("RS256", name)):
        desk = Desk(algorithms=algorithms)
        desk.keys.now = read_keyset({"keys": [jwk]}, algorithms)
        good = jwt.PyJWT().encode(desk.claims(), rsa_key, algorithm="RS256", headers={"kid": "r"})
        assert isinstance(desk.check(good), Ok)
        signing = f"{part({'alg': name, 'kid': 'r'})}.{part(desk.claims())}"
        digest = hmac.digest(secret(public), signing.encode(), f"sha{name[2:]}")
        assert isinstance(desk.check(f"{signing}.{encoded(digest)}"), Invalid)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "NoNe", "none ", "", "es256", "ES256 ", "ES256K"])
@pytest.mark.parametrize("signature", ["", "AAAA", "kept"])
def test_a_token_is_signed_under_the_name_of_an_algorithm(desk, alg, signature):
    signing = f"{part({'alg': alg, 'kid': 'test-1'})}.{part(desk.claims())}"
    tail = desk.signed({"alg": "ES256", "kid": "test-1"}, desk.claims()).rpartition(".")[2]
    assert isinstance(desk.check(f"{signing}.{tail if signature == 'kept' else signature}"), Invalid)


# Two issuers that are both believed


def of(issuer: TestIssuer, keys: Keys) -> Issuer:
    return Issuer(name=issuer.issuer, audience=issuer.audience, algorithms=("ES256",), snapshot=keys)


def test_an_issuer_s_key_signs_for_nobody_else_though_its_id_is_the_same(desk):
    one = desk.issuer
    two = mint_es256_issuer("https://two.example.com", one.audience, clock=desk.clock)
    keys = [Keys(read_keyset(issuer.jwks, ("ES256",))) for issuer in (one, two)]
    tokens = Tokens([of(one, keys[0]), of(two, keys[1])], Timer())
    for issuer in (one, two):
        found = settled(tokens.check(issuer.mint(), desk.clock()))[0]
        assert isinstance(found, Ok)
        assert found.actor.id == f"jwt:{issuer.issuer}|agent-1"
    assert isinstance(settled(tokens.check(one.mint(iss=two.issuer), desk.clock()))[0], Invalid)
    assert isinstance(settled(tokens.check(two.mint(iss=one.issuer), desk.clock()))[0], Invalid)


def test_a_token_falls_with_the_keys_of_its_own_issuer_only(desk):
    one = desk.issuer
    two = mint_es256_issuer("https://two.example.com", one.audience, clock=desk.clock)
    keys = [Keys(read_keyset(issuer.jwks, ("ES256",), 1)) for issuer in (one, two)]
    tokens = Tokens([of(one, keys[0]), of(two, keys[1])], Timer())
    texts = [one.mint(), two.mint()]
    for text in texts:
        assert isinstance(settled(tokens.check(text, desk.clock()))[0], Ok)
    keys[1].now = read_keyset(two.jwks, ("ES256",), 2)
    assert tokens.recall(texts[0], desk.clock()) is not None
    assert tokens.recall(texts[1], desk.clock()) is None


# Other spellings of one token


def test_the_mirrored_signature_is_no_new_identity(desk):
    text = desk.issuer.mint(jti="t-1", sid="s-1")
    head, _, tail = text.rpartition(".")
    signature = jwt.utils.base64url_decode(tail)
    mirrored = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    other = f"{head}.{encoded(mirrored)}"
    assert other != text
    assert desk.check(other) == desk.check(text)


@pytest.mark.parametrize("where", ["header", "payload"])
@pytest.mark.parametrize(("opening", "inner", "closing"), [("[", "", "]"), ('{"a":', "1", "}")], ids=["list", "map"])
def test_no_depth_of_nesting_makes_it_stumble(desk, where, opening, inner, closing):
    kinds = set()
    for depth in [1, 100, *range(900, 1010)]:
        deep = f',"x":{opening * depth}{inner}{closing * depth}}}'
        texts = {"header": json.dumps({"alg": "ES256", "kid": "test-1"}), "payload": json.dumps(desk.claims())}
        texts[where] = texts[where][:-1] + deep
        kinds.add(type(desk.check(sealed(desk.issuer, texts["header"], texts["payload"]))))
    assert kinds == {Ok, Invalid}


@pytest.mark.parametrize("where", ["header", "payload"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "01", "'x'", "0x1", '"\t"'])
def test_a_member_nobody_reads_is_json_too(desk, where, value):
    texts = {"header": json.dumps({"alg": "ES256", "kid": "test-1"}), "payload": json.dumps(desk.claims())}
    texts[where] = f'{texts[where][:-1]},"x":{value}}}'
    assert isinstance(desk.check(sealed(desk.issuer, texts["header"], texts["payload"])), Invalid)


# What a header may lead to


KIDS: list[Any] = ["../../etc/passwd", "..", "https://evil.example.com/k", "nobody"]
BAD_KIDS: list[Any] = ["/etc/passwd\x00", "' OR 1=1--", "k" * 10_240, 7, 7.5, True, {}, "", "a b", "\u0661", "é"]


@pytest.mark.parametrize("kid", KIDS)
def test_a_key_id_in_another_guise_is_at_most_asked_for(desk, kid):
    found, asked = settled(
        desk.tokens.check(desk.signed({"alg": "ES256", "kid": kid}, desk.claims()), desk.clock()), desk.keys.now
    )
    assert isinstance(found, Invalid)
    assert asked == [NeedKeySet(desk.issuer.issuer, kid)]


@pytest.mark.parametrize("kid", BAD_KIDS, ids=lambda kid: repr(kid)[:16])
def test_a_key_id_that_none_can_have_is_not_asked_for(desk, kid):
    found, asked = settled(
        desk.tokens.check(desk.signed({"alg": "ES256", "kid": kid}, desk.claims()), desk.clock()),
    )
    assert isinstance(found, Invalid)
    assert asked == []


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_a_header_that_brings_its_own_keys_is_refused_though_it_is_signed_with_them(desk, name):
    stranger = mint_es256_issuer(clock=desk.clock, kid="theirs")
    headers = [
        {name: "https://evil.example.com/keys"},
        {"jwk": stranger.jwks["keys"][0]},
        {"x5c": ["MIIB"]},
        {"jwk": desk.issuer.jwks["keys"][0], name: desk.issuer.issuer},
    ]
    for header in headers:
        for issuer in (stranger, desk.issuer):
            text = sealed(issuer, {"alg": "ES256", "kid": issuer.kid, **header}, desk.claims())
            found, asked = settled(desk.tokens.check(text, desk.clock()))
            assert isinstance(found, Invalid)
            assert asked == []
