"""A refusal says what credential would help, and nothing about why the one at hand was bad."""

from __future__ import annotations

import re

import pytest
from werkzeug.datastructures import WWWAuthenticate

from afmiddleware.identity.challenge import Challenges
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.resource import ProtectedResource, audience_path
from afmiddleware.model.codes import CODES
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.verdict import Verdict

ERRORS = {
    "identity.required": None,
    "identity.invalid": "invalid_token",
    "identity.tier": "insufficient_scope",
    "identity.scope": "insufficient_scope",
    "identity.proof": "invalid_dpop_proof",
    "identity.nonce": "use_dpop_nonce",
}
API = "https://api.example.com"
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def facts(method: str = "GET", query: bytes = b"", host: bytes = b"api.example.com") -> HttpFacts:
    return HttpFacts(method=method, path="/", query=query, headers=((b"host", host),))


def refused(code: str, *scopes: str) -> Verdict:
    return Verdict(authorized=False, code=code, reason='a "secret" reason', scopes=scopes)


@pytest.mark.parametrize("code", CODES)
def test_a_challenge_stands_where_a_credential_would_help(code):
    lines = Challenges().of(refused(code))
    if code not in ERRORS:
        assert lines == []
        return
    ((name, text),) = lines
    assert name == b"www-authenticate"
    parsed = WWWAuthenticate.from_header(text.decode())
    assert parsed is not None
    proof = code in ("identity.proof", "identity.nonce")
    assert parsed.type == ("dpop" if proof else "bearer")
    expected = {"realm": "api"} if ERRORS[code] is None else {"realm": "api", "error": ERRORS[code]}
    if proof:
        expected["algs"] = "ES256 ES384 RS256 PS256 EdDSA"
    assert dict(parsed.parameters) == expected


def test_every_401_has_a_challenge():
    for code, row in CODES.items():
        if row.status == 401:
            assert Challenges().of(refused(code))


def parsed_lines(lines):
    found = {}
    for name, text in lines:
        if name == b"www-authenticate":
            for each in re.split(r", (?=[A-Za-z]+ )", text.decode()):
                one = WWWAuthenticate.from_header(each)
                assert one is not None
                found[one.type] = dict(one.parameters)
    return found


def test_everything_that_the_service_accepts_is_offered():
    resource = ProtectedResource(Origins([API]), ["https://as.example.com"], {})
    asks = Challenges(realm="shop", resource=resource, key_header="X-API-Key", dpop=True, signs=True)
    lines = asks.of(refused("identity.required", "pay", "read"), facts("POST", b"a=1"))
    where = f"{API}{WELL_KNOWN}"
    told = {"realm": "shop", "scope": "pay read", "resource_metadata": where}
    assert parsed_lines(lines) == {
        "bearer": told,
        "dpop": {**told, "algs": "ES256 ES384 RS256 PS256 EdDSA"},
        "apikey": {"realm": "shop", "header": "X-API-Key"},
        "signature": {"realm": "shop"},
    }
    assert dict(lines)[b"accept-signature"] == (
        b'sig1=("@method" "@authority" "@path" "@query" "content-digest" "signature-agent";key="sig1")'
        b';created;expires;keyid;tag="web-bot-auth"'
    )
    # Another key does not help whoever lacks a scope.
    assert "apikey" not in parsed_lines(asks.of(refused("identity.scope", "pay"), facts()))


def test_a_scope_that_cannot_stand_there_is_left_out():
    (line,) = Challenges().of(refused("identity.scope", 'a"b', "c d", "é", "ok:1"))
    assert line[1] == b'Bearer realm="api", error="insufficient_scope", scope="ok:1"'


def test_the_metadata_is_that_of_the_origin_that_was_asked():
    two = ProtectedResource(Origins([API, "https://b.example"]), ["https://as.example.com"], {})
    assert two.url(facts(host=b"b.example")) == f"https://b.example{WELL_KNOWN}"
    assert two.url(facts(host=b"evil.example")) == ""
    assert two.document(facts(host=b"evil.example"), "") is None


@pytest.mark.parametrize(
    ("audience", "path"),
    [
        (API, ""),
        (f"{API}/", "/"),
        (f"{API}/mcp", "/mcp"),
        ("https://api.example.com:443/mcp", "/mcp"),
        ("https://other.example/mcp", ""),
        ("bookings", ""),
        (f"{API}/mcp?x", ""),
        ("https://[", ""),
    ],
)
def test_the_resource_is_the_audience_of_its_tokens(audience, path):
    assert audience_path(audience, [API]) == path


def test_the_parts_of_a_service():
    resource = ProtectedResource(Origins([API]), ["https://as.example.com"], {}, "/mcp")
    bound = ["POST /mcp", "GET /v1/flights/{id}", f"GET {WELL_KNOWN}/own"]
    for path, part in {
        "": "",
        "/": "",
        "/mcp": "/mcp",
        "/mcp/": "/mcp",
        "/v1": "/v1",
        "/v1/flights": "/v1/flights",
        "/v2": None,
        "/v1/fl": None,
        "x": None,
        "/own": None,
    }.items():
        assert resource.part(WELL_KNOWN + path, bound) == part, path
    assert resource.part("/elsewhere", bound) is None
    assert resource.url(facts()) == f"{API}{WELL_KNOWN}/mcp"
    assert resource.document(facts(), "/mcp") == {
        "resource": f"{API}/mcp",
        "authorization_servers": ["https://as.example.com"],
        "bearer_methods_supported": ["header"],
    }
