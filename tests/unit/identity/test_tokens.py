"""A token is believed only when everything about it is right, and forgotten when its key is."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from afmiddleware.identity.keyset import read_keyset
from afmiddleware.identity.needs import NeedKeySet
from afmiddleware.identity.outcome import Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier
from afmiddleware.testing import mint_es256_issuer
from tests.unit.identity.conftest import Desk, encoded, part, settled

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = {"alg": "ES256", "kid": "test-1"}
DESK = Desk()
NOW = DESK.clock() // 1_000_000


def check(payload: Any = None, header: Any = GOOD, desk: Desk = DESK) -> Any:
    return desk.check(desk.signed(header, desk.claims() if payload is None else payload))


def actor(**changes: Any) -> Actor:
    found = check(DESK.claims(**changes))
    assert isinstance(found, Ok), found
    return found.actor


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in DESK.claims().items() if key != name}


def as_text(**changes: str) -> str:
    """The usual claims as JSON text, some of them written as told."""
    members = {name: json.dumps(value) for name, value in DESK.claims().items()} | changes
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


def nested(depth: int) -> dict[str, Any]:
    act: dict[str, Any] = {"sub": f"agent-{depth}"}
    for level in range(depth - 1, 0, -1):
        act = {"sub": f"agent-{level}", "act": act}
    return act


def test_a_good_token_is_a_verified_actor():
    assert actor(scope="book pay", sid="s-1", jti="t-1") == Actor(
        id="jwt:https://as.example.com|agent-1",
        tier=Tier.VERIFIED,
        proof="bearer",
        scopes=frozenset({"book", "pay"}),
        account="agent-1",
        session="s-1",
        credential="jti:t-1",
    )


def test_the_outermost_actor_acts_for_the_subject():
    found = actor(act=nested(2))
    assert (found.id, found.agent, found.on_behalf_of, found.depth) == (
        "jwt:https://as.example.com|agent-1",
        "agent-1",
        "agent-1",
        2,
    )


GOOD_CLAIMS = {
    "our audience among others": {"aud": ["https://other.example.com", "https://api.example.com"]},
    "eight audiences": {"aud": ["https://api.example.com", *"1234567"]},
    "expired within the leeway": {"exp": NOW - 9, "iat": NOW - 300},
    "not before, within the leeway": {"nbf": NOW + 10},
    "issued within the leeway": {"iat": NOW + 10},
    "lives as long as it may": {"exp": NOW + 86400},
    "a subject of 256 characters": {"sub": "s" * 256},
    "a subject in another script": {"sub": "агент-1"},
    "four actors deep": {"act": nested(4)},
    "no scope": {"scope": ""},
}


@pytest.mark.parametrize("changes", GOOD_CLAIMS.values(), ids=GOOD_CLAIMS)
def test_claims_that_are_good(changes):
    assert isinstance(check(DESK.claims(**changes)), Ok)


BAD_CLAIMS: dict[str, Any] = {
    "expired past the leeway": DESK.claims(exp=NOW - 11),
    "expired at the end of the leeway": DESK.claims(exp=NOW - 10),
    "not valid yet": DESK.claims(nbf=NOW + 60),
    "issued in the future": DESK.claims(iat=NOW + 3600, exp=NOW + 3700),
    "lives too long": DESK.claims(exp=NOW + 86401),
    "lives far too long, says not since when": without("iat") | {"exp": NOW + 10**9},
    "wrong audience": DESK.claims(aud="https://other.example.com"),
    "audience in a longer one": DESK.claims(aud="https://api.example.com/x"),
    "audience empty": DESK.claims(aud=""),
    "no audience in the list": DESK.claims(aud=[]),
    "audience missing": without("aud"),
    "audience null": DESK.claims(aud=None),
    "audience a number": DESK.claims(aud=[1]),
    "audience a map": DESK.claims(aud={"https://api.example.com": 1}),
    "nine audiences": DESK.claims(aud=["https://api.example.com", *"12345678"]),
    "issuer unknown": DESK.claims(iss="https://evil.example.com"),
    "issuer cut short": DESK.claims(iss="https://as.example.co"),
    "issuer with a slash": DESK.claims(iss="https://as.example.com/"),
    "issuer in capitals": DESK.claims(iss="https://AS.example.com"),
    "issuer a list": DESK.claims(iss=["https://as.example.com"]),
    "issuer missing": without("iss"),
    "subject missing": without("sub"),
    "subject empty": DESK.claims(sub=""),
    "subject a number": DESK.claims(sub=7),
    "subject of 257 characters": DESK.claims(sub="s" * 257),
    "subject with a line break": DESK.claims(sub="a\nb"),
    "subject with half a surrogate pair": as_text(sub='"\\ud800"'),
    "end missing": without("exp"),
    "end null": DESK.claims(exp=None),
    "start missing though required": without("iat"),
    "bound to a DPoP key": DESK.claims(cnf={"jkt": "x"}),
    "bound to nothing readable": DESK.claims(cnf=None),
    "scope a list": DESK.claims(scope=["book"]),
    "scope with a line break": DESK.claims(scope="book\npay"),
    "scope with half a surrogate pair": as_text(scope='"\\ud800"'),
    "token id a number": DESK.claims(jti=1),
    "token id too long": DESK.claims(jti="j" * 257),
    "session a number": DESK.claims(sid=1),
    "session too long": DESK.claims(sid="s" * 257),
    "session with a line break": DESK.claims(sid="a\nb"),
    "session with half a surrogate pair": as_text(sid='"\\ud800"'),
    "actor a text": DESK.claims(act="agent-2"),
    "actor without a subject": DESK.claims(act={}),
    "actor with an empty subject": DESK.claims(act={"sub": "", "act": {"sub": "inner"}}),
    "actor with a line break": DESK.claims(act={"sub": "a\nb"}),
    "actor too long": DESK.claims(act={"sub": "a" * 257}),
    "actor with half a surrogate pair": as_text(act='{"sub":"\\ud800"}'),
    "five actors deep": DESK.claims(act=nested(5)),
    "duplicate subject": as_text(sub='"victim","sub":"agent-1"'),
    "duplicate inside": as_text(act='{"sub":"a","sub":"b"}'),
    "duplicate by escape": as_text(sub='"victim","s\\u0075b":"agent-1"'),
    "payload a list": "[]",
    "payload a text": '"x"',
    "payload no JSON": "{",
    "payload nested deep": as_text(x="[" * 2000 + "]" * 2000),
    "payload with a byte order mark": "\ufeff" + as_text(),
    **{
        f"{name} {kind}": as_text(**{name: value})
        for name in ("exp", "iat", "nbf")
        for kind, value in {
            "a text": f'"{NOW}"',
            "a fraction": f"{NOW}.5",
            "true": "true",
            "not a number": "NaN",
            "endless": "1e400",
            "of 5000 digits": "9" * 5000,
            "of 40 digits": "9" * 40,
            "negative": "-1",
            "a list": "[]",
        }.items()
    },
}


@pytest.mark.parametrize("payload", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_claims_that_are_not_good(payload):
    found = check(payload)
    assert isinstance(found, Invalid)
    assert found.code == "identity.invalid"


def test_every_required_claim_is_required():
    desk = Desk(require=("exp", "iat", "iss", "aud", "sub", "client_id", "jti"))
    assert isinstance(check(desk.claims(client_id="c", jti="j"), desk=desk), Ok)
    assert isinstance(check(desk.claims(client_id="c"), desk=desk), Invalid)
    assert isinstance(check(desk.claims(jti="j"), desk=desk), Invalid)


def test_without_a_start_the_life_of_a_token_counts_from_now():
    desk = Desk(require=("exp",), max_lifetime=300)
    claims = {name: value for name, value in desk.claims().items() if name != "iat"}
    assert isinstance(check(claims, desk=desk), Ok)
    assert isinstance(check(claims | {"exp": NOW + 310}, desk=desk), Ok)
    assert isinstance(check(claims | {"exp": NOW + 311}, desk=desk), Invalid)


ALGORITHMS: list[Any] = ["none", "nOnE", "", "HS256", "ES384", "RS256", None, 1, []]
KIDS: list[Any] = ["../x\x00", "' OR 1=1--", "", "k" * 129, "k" * 5000, 1, "\x00", None, ["test-1"], "test-1\n"]
HEADER_VALUES: list[Any] = ["https://evil.example.com", None, []]

BAD_HEADERS: dict[str, Any] = {
    **{f"alg {alg!r}": {"alg": alg, "kid": "test-1"} for alg in ALGORITHMS},
    "alg missing": {"kid": "test-1"},
    **{f"kid {str(kid)[:24]!r}": {"alg": "ES256", "kid": kid} for kid in KIDS},
    "kid missing": {"alg": "ES256"},
    **{
        f"header {name} {value!r}": {**GOOD, name: value}
        for name in ("crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c")
        for value in HEADER_VALUES
    },
    "critical extension": {**GOOD, "crit": ["exp"], "exp": 1},
    "payload not encoded": {**GOOD, "crit": ["b64"], "b64": False},
    "duplicate alg": '{"alg":"none","alg":"ES256","kid":"test-1"}',
    "a list": "[]",
    "no JSON": "{",
    "not UTF-8": None,
}


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_headers_that_are_not_good(header):
    if header is None:
        head = encoded(b"\xff{}")
        assert isinstance(DESK.check(f"{head}.{part(DESK.claims())}.AAAA"), Invalid)
    else:
        assert isinstance(check(header=header), Invalid)


@pytest.mark.parametrize("kid", ["../../etc/passwd", "nobody", "https://evil.example.com/key"])
def test_a_key_id_is_only_ever_looked_up(kid):
    desk = Desk()
    text = desk.signed({"alg": "ES256", "kid": kid}, desk.claims())
    found, asked = settled(desk.tokens.check(text, desk.clock()), desk.keys.now)
    assert isinstance(found, Invalid)
    assert asked == [NeedKeySet(desk.issuer.issuer, kid)]


def test_nothing_is_asked_for_a_token_that_cannot_be_good():
    for header in ({"alg": "none", "kid": "nobody"}, {**GOOD, "kid": "nobody", "jku": "https://evil.example.com"}):
        assert settled(DESK.tokens.check(DESK.signed(header, DESK.claims()), DESK.clock()))[1] == []


@pytest.mark.parametrize(
    ("typ", "good"),
    [
        ("at+jwt", True),
        ("AT+JWT", True),
        ("application/at+jwt", True),
        ("APPLICATION/AT+JWT", True),
        ("JWT", False),
        ("", False),
        (None, False),
        (1, False),
        ("at+jwt ", False),
        ("text/at+jwt", False),
    ],
)
def test_the_type_is_the_one_its_issuer_uses(typ, good):
    desk = Desk(typ=("at+jwt",))
    assert isinstance(check(header={**GOOD, "typ": typ}, desk=desk), Ok if good else Invalid)


@pytest.mark.parametrize("secret", ["pem", "der", "jwk", "jwk of the set", "point"])
def test_a_public_key_is_no_secret(secret):
    public = DESK.issuer.private_key.public_key()
    jwk = DESK.issuer.jwks["keys"][0]
    key = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "jwk": json.dumps(jwk).encode(),
        "jwk of the set": json.dumps(DESK.issuer.jwks).encode(),
    }[secret]
    for algorithms in (("ES256",), ("ES256", "HS256")):
        desk = Desk(algorithms=algorithms)
        desk.keys.now = DESK.keys.now
        signing = f"{part({'alg': 'HS256', 'kid': 'test-1'})}.{part(desk.claims())}"
        text = f"{signing}.{encoded(hmac.digest(key, signing.encode(), 'sha256'))}"
        assert isinstance(desk.check(text), Invalid)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_a_key_signs_under_its_own_algorithm_only(rsa_key):
    desk = Desk(algorithms=("RS256", "RS512", "PS256"))
    jwk = {**json.loads(RSAAlgorithm.to_jwk(rsa_key.public_key())), "kid": "r", "alg": "RS256"}
    desk.keys.now = read_keyset({"keys": [jwk]}, ("RS256", "RS512", "PS256"))
    mint = jwt.PyJWT().encode
    for algorithm, kind in (("RS256", Ok), ("RS512", Invalid), ("PS256", Invalid)):
        text = mint(desk.claims(), rsa_key, algorithm=algorithm, headers={"kid": "r"})
        assert isinstance(desk.check(text), kind), algorithm


def _other_key(text: str) -> str:
    stranger = mint_es256_issuer(clock=DESK.clock)
    return stranger.mint()


def _swapped(text: str) -> str:
    head, _, tail = text.split(".")
    return f"{head}.{part(DESK.claims(sub='victim'))}.{tail}"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "signed by a stranger": _other_key,
    "another payload": _swapped,
    "no signature": lambda text: text[: text.rindex(".") + 1],
    "no signature and no dot": lambda text: text[: text.rindex(".")],
    "a signature of zeros": lambda text: text[: text.rindex(".") + 1] + encoded(bytes(64)),
    "half a signature": lambda text: text[:-43],
    "one padding": lambda text: text + "=",
    "two paddings": lambda text: text + "==",
    "a space": lambda text: text + " ",
    "a line break": lambda text: text + "\n",
    "a line break inside": lambda text: text.replace(".", ".\n", 1),
    "a space before": lambda text: " " + text,
    "four parts": lambda text: text + ".AAAA",
    "five parts": lambda text: text + ".AAAA.AAAA",
    "an empty part": lambda text: text.replace(".", "..", 1),
    "plus for minus": lambda text: "+" + text[1:],
    "not ASCII": lambda text: text + "é",
    "a full-width letter": lambda text: "\uff45" + text[1:],
    "nothing but dots": lambda _: "..",
    "nothing": lambda _: "",
    "8193 bytes": lambda text: text + "A" * (8193 - len(text)),
    "64 KiB": lambda _: "A" * 65536,
    "the last bits of the signature set": lambda text: text[:-1] + chr(ord(text[-1]) + 1),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_no_other_spelling_of_a_good_token_is_good(spell):
    text = DESK.issuer.mint()
    while text[-1] != "A":  # So that the next letter differs in bits which carry nothing.
        text = DESK.issuer.mint()
    assert isinstance(DESK.check(text), Ok)
    assert isinstance(DESK.check(spell(text)), Invalid)


def test_a_token_of_8192_bytes_is_read():
    room = 8192 - len(DESK.signed(GOOD, as_text(x='""')))
    text = DESK.signed(GOOD, as_text(x=f'"{"x" * (room * 3 // 4)}"'))
    assert 8188 <= len(text) <= 8192
    assert isinstance(DESK.check(text), Ok)


def test_a_token_of_more_than_8192_bytes_is_not_even_when_it_is_signed():
    text = DESK.signed(GOOD, DESK.claims(x="x" * 6200))
    assert len(text) > 8192
    assert isinstance(DESK.check(text), Invalid)


def test_the_mirrored_signature_is_the_same_token():
    head, _, tail = DESK.issuer.mint(jti="t-1").rpartition(".")
    signature = jwt.utils.base64url_decode(tail)
    r, s = decode_dss_signature(jwt.utils.raw_to_der_signature(signature, DESK.issuer.private_key.curve))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    mirrored = encoded(r.to_bytes(32, "big") + (order - s).to_bytes(32, "big"))
    found = DESK.check(f"{head}.{mirrored}")
    assert isinstance(found, Ok)
    assert found.actor.credential == "jti:t-1"


def test_what_is_wrong_is_told_without_the_token(desk):
    for text in (desk.issuer.mint(sub="secret-subject\n"), desk.signed({**GOOD, "kid": "secret kid"}, desk.claims())):
        assert "secret" not in desk.check(text).detail


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(("ES256", "x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CLAIM = st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "sid", "act", "scope", "cnf", "x"])
HEADER = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty", "x"])


@given(changes=st.dictionaries(CLAIM, JSON, max_size=3), header=st.dictionaries(HEADER, JSON, max_size=2))
def test_no_signed_token_makes_it_stumble(changes, header):
    text = DESK.signed(GOOD | header, DESK.claims(**changes))
    found, _ = settled(DESK.tokens.check(text, DESK.clock()), always=DESK.keys.now)
    assert isinstance(found, (Ok, Invalid))


@given(st.text(alphabet="eyJ0.-_=A {}\n\x00é", max_size=80) | st.text(max_size=60))
def test_no_text_makes_it_stumble(text):
    assert isinstance(DESK.check(text), Invalid)
