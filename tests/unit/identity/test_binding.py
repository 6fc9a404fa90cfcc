"""A token that is bound to a key is good only from whoever holds the key: DPoP (RFC 9449) and certificates (RFC 8705)."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from afmiddleware.identity.binding import Proofs, Shown
from afmiddleware.identity.certificate import ClientCertificate
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.jose import thumbprint
from afmiddleware.identity.needs import NeedOnce
from afmiddleware.identity.nonces import SLOT, Nonces
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.outcome import Invalid, Ok
from afmiddleware.model.codes import IDENTITY_INVALID, IDENTITY_NONCE, IDENTITY_PROOF
from afmiddleware.model.http import HttpFacts
from afmiddleware.testing import DpopKey
from tests.unit.identity.conftest import Desk, settled

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/pay"


def nonces() -> Nonces:
    return Nonces(lambda message: (message * 8)[:32])


class Bound(Desk):
    """A desk whose tokens may be bound to a key at hand."""

    def __init__(self, *, nonce: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.tokens._proofs = Proofs(Origins([ORIGIN]), nonces() if nonce else None)
        self.key = DpopKey.make(clock=self.clock)
        self.token = self.issuer.mint(cnf={"jkt": self.key.thumbprint})

    def proof(self, **claims: Any) -> str:
        return self.key.proof("POST", URL, self.token, **claims)

    def send(self, *proofs: str, scheme: str = "DPoP", token: str = "", first: bool = True, **facts: Any) -> Any:
        headers = [(b"authorization", f"{scheme} {token or self.token}".encode())]
        headers += [(b"dpop", proof.encode("latin-1")) for proof in proofs]
        told = {"method": "POST", "path": "/pay", "raw_path": b"/pay", "peer": "203.0.113.7"} | facts
        known = Authenticators(None, b"x-api-key", self.tokens)
        return settled(known.identify(HttpFacts(headers=headers, **told), self.clock()), always=first)


@pytest.fixture
def desk() -> Bound:
    return Bound()


def test_a_bound_token_with_a_proof_is_possession(desk):
    found, asked = desk.send(desk.proof())
    assert isinstance(found, Ok)
    assert found.actor.proof == "possession"
    assert [type(need) for need in asked] == [NeedOnce]


def test_scheme_and_binding_go_together(desk):
    assert desk.send(desk.proof(), scheme="Bearer")[0] == Invalid("bound to a key, and presented as a plain bearer")
    plain = desk.issuer.mint()
    proof = desk.key.proof("POST", URL, plain)
    assert desk.send(proof, token=plain)[0] == Invalid("bound to no key, and presented with a proof")


def test_what_is_remembered_is_not_recalled_for_a_bearer(desk):
    assert isinstance(desk.send(desk.proof())[0], Ok)
    known = Authenticators(None, b"x-api-key", desk.tokens)
    bearer = HttpFacts(method="POST", path="/pay", headers=[(b"authorization", f"Bearer {desk.token}".encode())])
    assert known.recall(bearer, desk.clock()) is None
    assert isinstance(desk.send(desk.proof(), scheme="Bearer")[0], Invalid)


def test_a_proof_is_used_up(desk):
    proof = desk.proof()
    _, [need] = desk.send(proof)
    assert desk.send(proof)[1] == [need]
    found = desk.send(proof, first=False)[0]
    assert found == Invalid("DPoP proof: used before", IDENTITY_PROOF)
    assert desk.token not in need.key
    assert desk.send(desk.proof())[1] != [need]


def test_the_id_of_a_proof_is_kept_for_as_long_as_it_is_good(desk):
    now = desk.clock() // 1_000_000
    for made in (now - 60, now, now + 60):
        _, [need] = desk.send(desk.proof(iat=made))
        assert made * 1_000_000 + 60_000_000 < desk.clock() + need.keep <= made * 1_000_000 + 62_000_000


NOW = Desk().clock() // 1_000_000
WRONG: dict[str, dict[str, Any]] = {
    "method": {"htm": "GET"},
    "method in small letters": {"htm": "post"},
    "path": {"htu": f"{ORIGIN}/pay2"},
    "a doubled slash": {"htu": f"{ORIGIN}//pay"},
    "host": {"htu": "https://evil.example/pay"},
    "scheme": {"htu": "http://api.example.com/pay"},
    "port": {"htu": "https://api.example.com:8443/pay"},
    "no URL": {"htu": "pay"},
    "a URL that is none": {"htu": "https://[/pay"},
    "another port that is none": {"htu": "https://api.example.com:99999/pay"},
    "a number for a URL": {"htu": 7},
    "too old": {"iat": NOW - 61},
    "of the future": {"iat": NOW + 61},
    "a time that is text": {"iat": str(NOW)},
    "a time that is true": {"iat": True},
    "another token": {"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"},
    "no token": {"ath": None},
    "no id": {"jti": None},
    "an empty id": {"jti": ""},
    "an id that is a number": {"jti": 7},
    "an endless id": {"jti": "a" * 257},
    "no method": {"htm": None},
    "no URL at all": {"htu": None},
    "no time": {"iat": None},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
def test_a_proof_for_something_else(desk, claims):
    found, asked = desk.send(desk.proof(**claims))
    assert (found.code, asked) == (IDENTITY_PROOF, [])


def test_a_spoofed_host_is_no_origin(desk):
    spoofed = desk.key.proof("POST", "https://evil.example/pay", desk.token)
    known = Authenticators(None, b"x-api-key", desk.tokens)
    headers = [
        (b"host", b"evil.example"),
        (b"authorization", f"DPoP {desk.token}".encode()),
        (b"dpop", spoofed.encode()),
    ]
    found, _ = settled(
        known.identify(HttpFacts(method="POST", path="/pay", headers=headers, raw_path=b"/pay"), desk.clock()),
        always=True,
    )
    assert isinstance(found, Invalid)
    assert found.code == IDENTITY_PROOF


def test_without_public_origins_no_proof_is_good(desk):
    desk.tokens._proofs = Proofs(Origins([]))
    assert desk.send(desk.proof())[0].code == IDENTITY_PROOF


@pytest.mark.parametrize(
    "htu",
    [
        "https://api.example.com:443/pay",
        "HTTPS://API.EXAMPLE.COM/pay",
        "https://api.example.com/%70ay",
        "https://api.example.com/pay?a=1#b",
    ],
)
def test_a_url_has_several_spellings(desk, htu):
    assert isinstance(desk.send(desk.proof(htu=htu))[0], Ok)


def test_a_path_as_the_server_keeps_it(desk):
    proof = desk.key.proof("POST", f"{ORIGIN}/a%2fb%20c", desk.token)
    assert isinstance(desk.send(proof, path="/a/b c", raw_path=b"/a%2Fb%20c")[0], Ok)
    proof = desk.key.proof("POST", f"{ORIGIN}/a%2fb", desk.token)
    assert isinstance(desk.send(proof, path="/a/b", raw_path=b"/a/b")[0], Invalid)
    proof = desk.key.proof("POST", f"{ORIGIN}/caf%C3%A9", desk.token)
    assert isinstance(desk.send(proof, path="/café", raw_path=None)[0], Ok)


def headers(desk: Bound) -> dict[str, dict[str, Any]]:
    public = desk.key.jwk
    private = {**public, "d": "AAAA"}
    other = DpopKey.make(clock=desk.clock)
    return {
        "no type": {"typ": None},
        "another type": {"typ": "JWT"},
        "no key": {"jwk": None},
        "a private key": {"jwk": private},
        "a key that is text": {"jwk": "key"},
        "a shared secret": {"jwk": {"kty": "oct", "k": "AAAA"}},
        "another's key": {"jwk": other.jwk},
        "a key for encryption": {"jwk": {**public, "use": "enc"}},
        "no algorithm": {"alg": "none"},
        "a symmetric algorithm": {"alg": "HS256"},
        "an algorithm that is a list": {"alg": ["ES256"]},
        "crit": {"crit": ["x"]},
        "b64": {"b64": False},
        "a URL of keys": {"jku": "https://evil.example/"},
        "a chain of certificates": {"x5c": ["AAAA"]},
    }


@pytest.mark.parametrize("name", headers(Bound()))
def test_the_head_of_a_proof(desk, name):
    change = headers(desk)[name]
    found, asked = desk.send(desk.key.proof("POST", URL, desk.token, headers=change))
    assert (found.code, asked) == (IDENTITY_PROOF, [])


def test_a_proof_signed_with_another_key_than_it_shows(desk):
    other = DpopKey.make(clock=desk.clock)
    forged = other.proof("POST", URL, desk.token, headers={"jwk": desk.key.jwk})
    assert desk.send(forged)[0].code == IDENTITY_PROOF


def test_there_is_exactly_one_proof(desk):
    one, two = desk.proof(), desk.proof()
    for proofs in ((), (one, two), (f"{one}, {two}",), ("",), (one + "=",), ("é",), ("a" * 5000,), (f"{one}.",)):
        found, asked = desk.send(*proofs)
        assert (found.code, asked) == (IDENTITY_PROOF, [])


def test_a_nonce_is_asked_for_and_good_for_a_while():
    desk = Bound(nonce=True)
    found, asked = desk.send(desk.proof())
    assert (found.code, asked) == (IDENTITY_NONCE, [])
    assert found.nonce == nonces().fresh(desk.clock())
    assert isinstance(desk.send(desk.proof(nonce=found.nonce))[0], Ok)
    desk.clock.advance(SLOT / 1e6)
    fresh = desk.issuer.mint(cnf={"jkt": desk.key.thumbprint})
    later = desk.key.proof("POST", URL, fresh, nonce=found.nonce)
    assert isinstance(desk.send(later, token=fresh)[0], Ok)
    desk.clock.advance(SLOT / 1e6)
    fresh = desk.issuer.mint(cnf={"jkt": desk.key.thumbprint})
    late = desk.key.proof("POST", URL, fresh, nonce=found.nonce)
    assert desk.send(late, token=fresh)[0].code == IDENTITY_NONCE


@pytest.mark.parametrize("nonce", ["", "x", 7, None, "é", "A" * 24])
def test_what_is_no_nonce_of_ours(nonce):
    assert not nonces().good(nonce, NOW * 1_000_000)


# Client certificates

CERTIFICATE = ClientCertificate(thumbprint="A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")


@pytest.mark.parametrize(
    ("shown", "good"),
    [
        (CERTIFICATE, True),
        (None, False),
        (ClientCertificate(thumbprint="bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"), False),
    ],
)
def test_a_token_bound_to_a_certificate(desk, shown, good):
    text = desk.issuer.mint(cnf={"x5t#S256": CERTIFICATE.thumbprint})
    found, _ = settled(desk.tokens.check(text, desk.clock(), Shown("bearer", None, shown)))
    assert isinstance(found, Ok if good else Invalid)
    assert not isinstance(found, Ok) or found.actor.proof == "possession"
    assert desk.tokens.recall(text, desk.clock()) is None


def test_bound_both_ways_needs_both(desk):
    desk.token = desk.issuer.mint(cnf={"jkt": desk.key.thumbprint, "x5t#S256": CERTIFICATE.thumbprint})
    found, _ = desk.send(desk.proof())
    assert found == Invalid("bound to another client certificate than the connection's")


@pytest.mark.parametrize(
    ("required", "cnf", "good"),
    [
        ("dpop", {}, False),
        ("mtls", {}, False),
        ("any", {}, False),
        ("dpop", {"x5t#S256": CERTIFICATE.thumbprint}, False),
        ("mtls", {"x5t#S256": CERTIFICATE.thumbprint}, True),
        ("any", {"x5t#S256": CERTIFICATE.thumbprint}, True),
        ("none", {}, True),
    ],
)
def test_an_issuer_whose_tokens_must_be_bound(required, cnf, good):
    desk = Bound(binding=required)
    text = desk.issuer.mint(**({"cnf": cnf} if cnf else {}))
    for _ in range(2):
        assert desk.tokens.recall(text, desk.clock()) is None or required == "none"
        found, _ = settled(desk.tokens.check(text, desk.clock(), Shown("bearer", None, CERTIFICATE)))
        assert isinstance(found, Ok if good else Invalid)


@pytest.mark.parametrize(
    "cnf", [{}, {"jwk": {}}, {"kid": "x"}, {"jkt": 7}, {"jkt": ""}, {"jkt": "x", "other": "y"}, "jkt", ["jkt"], None]
)
def test_a_binding_that_is_not_known(desk, cnf):
    found = desk.check(desk.signed({"alg": "ES256", "kid": "test-1"}, desk.claims(cnf=cnf)))
    assert (type(found), found.code) == (Invalid, IDENTITY_INVALID)


# Thumbprints


def test_the_thumbprint_of_rfc_7638():
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajr"
        "n1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert (
        thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256"})
        == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )


def test_a_thumbprint_of_nothing():
    for jwk in (
        {},
        {"kty": "oct", "k": "A"},
        {"kty": "EC", "crv": "P-256", "x": "A"},
        {"kty": "RSA", "n": 1, "e": "A"},
    ):
        with pytest.raises(ValueError, match="not a public key"):
            thumbprint(jwk)


@pytest.mark.parametrize("private", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_other_kinds_of_keys(desk, private):
    import json

    rsa_key = isinstance(private, rsa.RSAPrivateKey)
    jwk = json.loads((RSAAlgorithm if rsa_key else ECAlgorithm).to_jwk(private.public_key()))
    key = DpopKey(
        private, {name: jwk[name] for name in jwk if name != "key_ops"}, "PS256" if rsa_key else "ES384", desk.clock
    )
    desk.token = desk.issuer.mint(cnf={"jkt": key.thumbprint})
    assert isinstance(desk.send(key.proof("POST", URL, desk.token))[0], Ok)
