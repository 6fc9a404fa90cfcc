"""Tokens of a real authorization server, through real servers of every framework. Numbers are cases of the index."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from afmiddleware.identity.jose import digest64
from afmiddleware.ledger.orders import taking_back
from afmiddleware.model.revocation import ANY_TIME, Revocation
from afmiddleware.testing import DpopKey
from tests.identity.server import API, AuthorizationServer, encoded
from tests.identity.sites import Site
from tests.unit.identity.test_revocations import mirrored

Make = Callable[[AuthorizationServer], str]


def now() -> int:
    return int(time.time())


def forged(header: Any, secret: bytes) -> Make:
    """A token signed with HMAC over `secret`."""

    def make(server: AuthorizationServer) -> str:
        head = {"typ": "at+jwt", "alg": "HS256", "kid": server.keys[0].kid} | header
        signing = b".".join(encoded(json.dumps(part).encode()) for part in (head, server.claims()))
        key = secret or public_text(server)
        return b".".join([signing, encoded(hmac.digest(key, signing, sha256))]).decode()

    return make


def public_text(server: AuthorizationServer) -> bytes:
    public = server.keys[0].public_key
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk_text(server: AuthorizationServer) -> str:
    return forged({}, json.dumps(server.jwks()["keys"][0]).encode())(server)


def headed(**header: Any) -> Make:
    """A good signature under a header that is not."""

    def make(server: AuthorizationServer) -> str:
        head = {"typ": "at+jwt", "alg": "ES256", "kid": server.keys[0].kid} | header
        return server.signed({name: value for name, value in head.items() if value is not None}, server.claims())

    return make


def claimed(**claims: Any) -> Make:
    """A good signature over claims; functions are called with the server."""

    def make(server: AuthorizationServer) -> str:
        told = {name: value(server) if callable(value) else value for name, value in claims.items()}
        head = {"typ": "at+jwt", "alg": "ES256", "kid": server.keys[0].kid}
        return server.signed(head, server.claims(**told))

    return make


def text_claims(**texts: str) -> Make:
    """Claims as exact JSON text."""

    def make(server: AuthorizationServer) -> str:
        members = {name: json.dumps(value) for name, value in server.claims().items()} | texts
        payload = "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"
        return server.signed({"typ": "at+jwt", "alg": "ES256", "kid": server.keys[0].kid}, payload)

    return make


def twice(server: AuthorizationServer) -> str:
    payload = json.dumps(server.claims())[:-1] + ', "sub": "admin"}'
    return server.signed({"typ": "at+jwt", "alg": "ES256", "kid": server.keys[0].kid}, payload)


def changed(change: Callable[[str], str]) -> Make:
    return lambda server: change(server.mint())


def unsigned(alg: Any) -> Make:
    def make(server: AuthorizationServer) -> str:
        parts = ({"typ": "at+jwt", "alg": alg, "kid": server.keys[0].kid}, server.claims())
        return b".".join([*(encoded(json.dumps(part).encode()) for part in parts), b""]).decode()

    return make


def long(length: int) -> Make:
    def make(server: AuthorizationServer) -> str:
        token = server.mint()
        return token + "A" * (length - len(token))

    return make


REFUSED: list[tuple[int, str, Make]] = [
    *[(3, f"alg {alg!r}", unsigned(alg)) for alg in ("none", "nOnE", "")],
    (4, "HS256 with the public key", forged({}, b"")),
    (5, "HS256 with the JWK", jwk_text),
    *[(6, f"alg {alg}", headed(alg=alg)) for alg in ("RS512", "ES384", "PS256", "EdDSA", "HS256", 7)],
    *[
        (7, f"kid {str(kid)[:20]!r}", headed(kid=kid))
        for kid in ("../../etc/passwd", "' OR 1=1--", "a" * 5000, 7, "a\0b", None, "")
    ],
    (8, "a kid nobody knows", headed(kid="nobody")),
    (9, "over by more than the leeway", claimed(exp=lambda _: now() - 11, iat=lambda _: now() - 100)),
    (10, "not yet", claimed(nbf=lambda _: now() + 60)),
    (11, "issued later", claimed(iat=lambda _: now() + 3600, exp=lambda _: now() + 3900)),
    *[
        (12, f"exp {exp[:12]}", text_claims(exp=exp))
        for exp in ('"9999999999"', "9999999999.5", "true", "NaN", "1e400")
    ],
    (12, "exp of 5000 digits", text_claims(exp="9" * 5000)),
    (13, "lives too long", claimed(exp=lambda _: now() + 86_400 + 60)),
    (14, "another audience", claimed(aud="https://other.example.com")),
    *[(15, f"aud {str(aud)[:20]}", claimed(aud=aud)) for aud in ([], "", None, [1], [API, *"abcdefgh"])],
    (16, "for others too, at a strict issuer", claimed(iss=lambda server: f"{server.url}/strict", aud=[API, "other"])),
    (17, "another issuer", claimed(iss="https://evil.example.com")),
    (17, "a part of the issuer", claimed(iss=lambda server: server.url[:-1])),
    (17, "the issuer and a slash", claimed(iss=lambda server: f"{server.url}/")),
    (17, "the issuer in capitals", claimed(iss=lambda server: server.url.upper())),
    *[(18, f"typ {typ}", headed(typ=typ)) for typ in ("JWT", "id+jwt", None, 7)],
    (18, "without the claims of RFC 9068", claimed(client_id=None)),
    (18, "without an id", claimed(jti=None)),
    (19, "crit", headed(crit=["x"])),
    (19, "an empty crit", headed(crit=[])),
    (19, "b64", headed(b64=False)),
    (20, "jku", lambda server: headed(jku=f"{server.url}/jwks")(server)),
    (20, "jwk", lambda server: headed(jwk=server.jwks()["keys"][0])(server)),
    (20, "x5u", lambda server: headed(x5u=f"{server.url}/jwks")(server)),
    (20, "x5c", headed(x5c=["AAAA"])),
    (21, "sub twice", twice),
    *[(22, f"sub {sub!r}", claimed(sub=sub)) for sub in ("", 7, None, "a\nb", "a" * 257)],
    (23, "8193 bytes", long(8193)),
    (23, "60 KiB", long(60_000)),
    (24, "five parts", changed(lambda token: f"{token}.a.b")),
    (24, "two parts", changed(lambda token: token.rpartition(".")[0])),
    (25, "padding", changed(lambda token: token + "=")),
    (25, "more padding", changed(lambda token: token + "==")),
    (25, "a space within", changed(lambda token: token.replace(".", ". ", 1))),
    (39, "bound to a key", claimed(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})),
    (39, "bound to a certificate", claimed(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"})),
]


@pytest.mark.parametrize(("case", "name", "make"), REFUSED, ids=[f"{case} {name}" for case, name, _ in REFUSED])
def test_a_token_that_is_not_good(site: Site, server: AuthorizationServer, case: int, name: str, make: Make) -> None:
    site.bearer(server.mint())
    site.bearer(server.mint(iss=f"{server.url}/strict"))
    before = server.fetches()
    answer = site.bearer(make(server))
    # One server refuses a header of that size by itself.
    assert answer.status == 401 or (case == 23 and answer.status in (400, 431)), (answer.status, answer.body)
    if answer.status == 401:
        assert answer.json["code"] == "identity.invalid"
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert answer.json["detail"] == "The credential is not valid."
    assert server.fetches() - before <= (case in (7, 8))


GOOD: list[tuple[int, str, Make]] = [
    (2, "a good token", lambda server: server.mint()),
    (9, "over, within the leeway", claimed(exp=lambda _: now() - 5, iat=lambda _: now() - 100)),
    (16, "for others too", claimed(aud=[API, "https://other.example.com"])),
    (18, "its type spelled out", headed(typ="APPLICATION/AT+JWT")),
]


@pytest.mark.parametrize(("case", "name", "make"), GOOD, ids=[f"{case} {name}" for case, name, _ in GOOD])
def test_a_token_that_is_good(site: Site, server: AuthorizationServer, case: int, name: str, make: Make) -> None:
    for _ in range(2):
        answer = site.bearer(make(server))
        assert (answer.status, answer.json["tier"]) == (200, "verified")
        assert answer.json["id"] == f"jwt:{server.url}|agent-1"


def test_nobody_is_anonymous(site: Site) -> None:  # 1
    answer = site.send()
    assert (answer.status, answer.json["tier"], answer.json["proof"]) == (200, "anonymous", "none")
    assert site.pay("1").status == 401


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("bearer {}", 200),
        ("BEARER {}", 200),
        ("Bearer  {}", 200),
        ("Bearer\t{}", 400),
        ("Basic eDp5", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("{}", 401),
        ("Token {}", 401),
    ],
)
def test_how_a_token_is_written(site: Site, server: AuthorizationServer, value: str, status: int) -> None:  # 28, 29
    answer = site.send(("Authorization", value.format(server.mint())))
    assert answer.status == status, answer.body


def test_two_credentials_are_ambiguous(site: Site, server: AuthorizationServer) -> None:  # 27, 30, 31
    token, other = server.mint(), server.mint(sub="agent-2")
    key = site.fence.keys.create("acme").text
    lines = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {other}")]
    for headers in (
        lines,
        [lines[0], lines[0]],
        [("Authorization", f"Bearer {token}, Bearer {other}")],
        [lines[0], ("X-API-Key", key)],
        [("Authorization", f"Bearer {key}"), ("X-API-Key", key), ("X-API-Key", key)],
    ):
        answer = site.send(*headers)
        assert (answer.status, answer.json["code"]) == (400, "request.ambiguous"), headers
    assert site.send(("Authorization", f"Bearer {key}"), ("X-API-Key", key)).json["id"] == "key:acme"
    for query in (f"access_token={token}", f"a=1&access%5Ftoken={token}", f"key={key}"):
        assert site.send(where=f"/who?{query}").status == 400


def test_a_token_that_was_taken_back(site: Site, server: AuthorizationServer) -> None:  # 26
    token = server.mint(jti="taken")
    other = mirrored(token)
    assert [site.bearer(one).status for one in (token, other)] == [200, 200]
    gone = Revocation(kind="jti", issuer=server.url, name="taken", before=ANY_TIME, until=ANY_TIME)
    site.fence.ledger.commit(taking_back(gone, "test"))
    revoked = site.checks()._tokens._revoked
    revoked._read_at = revoked._due_at = -100.0
    assert [site.bearer(one).status for one in (token, other, token + "=", token + "==")] == [401] * 4
    assert site.bearer(server.mint()).status == 200


# Proofs of possession


def proof_of(key: DpopKey, token: str, **claims: Any) -> str:
    return key.proof("GET", f"{API}/who", token, **claims)


def bound(server: AuthorizationServer, key: DpopKey) -> str:
    """A token as a client gets it that shows its key."""
    proof = key.proof("POST", f"{server.url}/token", "")
    answer = httpx.post(f"{server.url}/token", data={"grant_type": "client_credentials"}, headers={"dpop": proof})
    assert answer.json()["token_type"] == "DPoP"
    return str(answer.json()["access_token"])


def test_a_bound_token_and_its_proof(site: Site, server: AuthorizationServer) -> None:  # 39, 40
    key = DpopKey.make()
    token = bound(server, key)
    assert site.bearer(token).status == 401
    proof = proof_of(key, token)
    answer = site.send(("Authorization", f"DPoP {token}"), ("DPoP", proof))
    assert (answer.status, answer.json["proof"]) == (200, "possession")
    again = site.send(("Authorization", f"DPoP {token}"), ("DPoP", proof))
    assert (again.status, again.json["code"]) == (401, "identity.proof")
    assert 'error="invalid_dpop_proof"' in again.headers["www-authenticate"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"htm": "POST"},
        {"htu": "https://evil.example/who"},
        {"htu": f"{API}/pay"},
        {"ath": digest64(b"other")},
        {"iat": lambda: now() - 61},
        {"iat": lambda: now() + 3600},
        {"headers": {"jwk": {**DpopKey.make().jwk, "d": "AAAA"}}},
        {"headers": {"alg": "HS256"}},
        {"headers": {"typ": "JWT"}},
    ],
)
def test_a_proof_for_something_else(site: Site, server: AuthorizationServer, wrong: dict[str, Any]) -> None:  # 40
    key = DpopKey.make()
    token = bound(server, key)
    claims = {name: value() if callable(value) else value for name, value in wrong.items()}
    answer = site.send(("Authorization", f"DPoP {token}"), ("DPoP", proof_of(key, token, **claims)))
    assert (answer.status, answer.json["code"]) == (401, "identity.proof")


def test_a_proof_for_a_spoofed_host(site: Site, server: AuthorizationServer) -> None:  # 40
    key = DpopKey.make()
    token = bound(server, key)
    proof = proof_of(key, token, htu="https://evil.example/who")
    shown = (("Authorization", f"DPoP {token}"), ("DPoP", proof))
    for spoofed in (("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example")):
        assert site.send(*shown, spoofed).status in (400, 401)


def test_the_id_of_a_proof_used_again(site: Site, server: AuthorizationServer) -> None:  # 40
    key = DpopKey.make()
    token = bound(server, key)
    statuses = [
        site.send(
            ("Authorization", f"DPoP {token}"), ("DPoP", proof_of(key, token, jti="once", iat=now() - past))
        ).status
        for past in (0, 1, 2)
    ]
    assert statuses == [200, 401, 401]


def test_two_proofs_and_another_ones_proof(site: Site, server: AuthorizationServer) -> None:  # 40
    key, other = DpopKey.make(), DpopKey.make()
    token = bound(server, key)
    for proofs in ([], [proof_of(key, token), proof_of(key, token)], [proof_of(other, token)]):
        answer = site.send(("Authorization", f"DPoP {token}"), *[("DPoP", proof) for proof in proofs])
        assert answer.status in (400, 401), answer.body


def test_an_agent_acts_for_a_user(site: Site, server: AuthorizationServer) -> None:
    user = server.mint(sub="alice")
    answer = httpx.post(
        f"{server.url}/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": user,
            "actor": "agent-7",
        },
    )
    told = site.bearer(answer.json()["access_token"]).json
    assert (told["agent"], told["on_behalf_of"], told["depth"]) == ("agent-7", "alice", 1)


def test_an_opaque_token_is_good_on_its_issuers_word(site: Site, server: AuthorizationServer) -> None:
    answer = site.bearer(server.opaque(sub="agent-9"))
    assert (answer.status, answer.json["id"], answer.json["tier"]) == (200, f"jwt:{server.url}|agent-9", "token")
    other = server.opaque(aud="https://other.example.com")
    assert site.bearer(other).status == 401
