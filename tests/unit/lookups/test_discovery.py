"""Where an issuer's keys are: where it says itself, or in the policy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from afmiddleware.errors import ConfigError, IdentityUnavailableError
from afmiddleware.lookups.jwks import discovery_url, document_in, fixed_keys
from tests.unit.lookups.conftest import ISSUER, Server, Source, send

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler


@pytest.mark.parametrize(
    ("issuer", "profile", "url"),
    [
        ("https://as.example.com", "oidc", "https://as.example.com/.well-known/openid-configuration"),
        ("https://as.example.com/", "oidc", "https://as.example.com/.well-known/openid-configuration"),
        ("https://as.example.com/t/1", "oidc", "https://as.example.com/t/1/.well-known/openid-configuration"),
        ("https://as.example.com", "rfc8414", "https://as.example.com/.well-known/oauth-authorization-server"),
        ("https://as.example.com/", "rfc8414", "https://as.example.com/.well-known/oauth-authorization-server"),
        ("https://as.example.com/t/1", "rfc8414", "https://as.example.com/.well-known/oauth-authorization-server/t/1"),
    ],
)
def test_where_an_issuer_describes_itself(issuer, profile, url):
    assert discovery_url(issuer, profile) == url


def described(server: Server, **members: Any) -> Source:
    document = {"issuer": server.url, "jwks_uri": f"{server.url}/keys"} | members

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps(ISSUER.jwks if handler.path == "/keys" else document).encode())

    server.answer = answer
    return Source(discovery_url(server.url, "oidc"), discovery="oidc")


def test_the_keys_are_where_the_issuer_says(server):
    source = described(server)
    assert sorted(source.load().keys) == ["test-1"]
    assert server.seen == ["/.well-known/openid-configuration", "/keys"]


BAD_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "another issuer": {"issuer": "https://evil.example.com"},
    "no issuer": {"issuer": None},
    "no keys": {"jwks_uri": None},
    "keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "keys elsewhere, unprotected": {"jwks_uri": "http://example.com/keys"},
    "keys on a private address": {"jwks_uri": "https://169.254.169.254/keys"},
}


@pytest.mark.parametrize("members", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_a_bad_description_leads_nowhere(server, members):
    with pytest.raises(IdentityUnavailableError):
        described(server, **members).load()
    assert server.seen == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example.com/keys",
        "https://as.example.com.evil.example/keys",
        "https://as.example.com@evil.example/keys",
        "https://sub.as.example.com/keys",
        "https://169.254.169.254/latest/meta-data",
        "http://as.example.com/keys",
        "ftp://as.example.com/keys",
        "//as.example.com/keys",
        "/keys",
        "https:///keys",
        "https://[as.example.com/keys",
        "",
        7,
    ],
)
def test_keys_on_another_host_are_not_even_asked_for(where):
    asked: list[str] = []

    def fetch(url: str) -> Any:
        asked.append(url)
        return {"issuer": "https://as.example.com", "jwks_uri": where}

    url = "https://as.example.com/.well-known/openid-configuration"
    with pytest.raises(IdentityUnavailableError):
        Source(url, fetch, discovery="oidc").load()
    assert asked == [url]


@pytest.mark.parametrize("where", ["https://as.example.com/t/1/keys?v=2", "https://AS.example.com:8443/keys"])
def test_keys_on_the_host_of_the_issuer_are_asked_for(where):
    documents = {
        "https://as.example.com/.well-known/openid-configuration": {
            "issuer": "https://as.example.com",
            "jwks_uri": where,
        },
        where: ISSUER.jwks,
    }
    source = Source(next(iter(documents)), documents.__getitem__, discovery="oidc")
    assert sorted(source.load().keys) == ["test-1"]


@pytest.mark.parametrize("issuer", ["{}/", "{}/x", "HTTP://127.0.0.1"])
def test_the_issuer_is_the_same_byte_for_byte(server, issuer):
    with pytest.raises(IdentityUnavailableError):
        described(server, issuer=issuer.format(server.url)).load()


# Keys at hand


def test_keys_of_the_policy_are_there_at_once(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(ISSUER.jwks))
    for keys in (
        fixed_keys(ISSUER.jwks, ("ES256",), "fence.yaml"),
        fixed_keys(document_in(file, "x"), ("ES256",), "x"),
    ):
        assert list(keys.snapshot().keys) == ["test-1"]
        assert keys.wanted("nobody").result(0) is keys.snapshot()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "no list called keys"),
        ({"keys": []}, "it is empty"),
        ({"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0LXNlY3JldA"}]}, "key 1: it is secret"),
    ],
)
def test_keys_of_the_policy_that_cannot_be_used_stop_the_start(tmp_path, document, why):
    with pytest.raises(ConfigError, match=f"here: .*{why}") as caught:
        fixed_keys(document, ("ES256",), "here")
    assert "c2VjcmV0" not in str(caught.value)


NO_JSON = 'is not JSON; write a key set, {"keys": [...]}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file or directory; write the public keys there"),
        ("", NO_JSON),
        ("{", NO_JSON),
        ("\udcff", NO_JSON),
    ],
)
def test_a_file_of_keys_that_cannot_be_read_stops_the_start(tmp_path, text, why):
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError) as caught:
        document_in(file, "line 3: keys of x")
    assert caught.value.problems == (f"line 3: keys of x: the file {file} {why}",)
