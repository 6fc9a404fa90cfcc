"""The directory of an agent, fetched from a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afmiddleware.errors import ConfigError, IdentityUnavailableError
from afmiddleware.identity.directory import ALGORITHMS, read_directory
from afmiddleware.lookups.jwks import FetchedKeys, fetcher
from tests.signing import Signer
from tests.unit.lookups.conftest import SECONDS, Server, says

MEDIA = "application/http-message-signatures-directory+json"
ONE = Signer()


def source(server: Server, timer: Any = lambda: 0.0) -> FetchedKeys:
    fetch = fetcher(allow_private=True)
    return FetchedKeys("agent", server.url, ALGORITHMS, timer=timer, fetch=fetch, read=read_directory)


def test_keys_are_known_by_their_thumbprints(server: Server) -> None:
    jwk = {**ONE.jwk, "kid": "whatever"}
    server.answer = says(json.dumps({"keys": [jwk]}).encode(), Content_Type=MEDIA)
    keys = source(server).wanted(ONE.keyid).result(SECONDS)
    assert list(keys.keys) == [ONE.keyid]
    assert keys.keys[ONE.keyid].algorithm == "EdDSA"


@pytest.mark.parametrize(
    "answer",
    [
        says(b"", 302, Location="https://elsewhere.example/keys"),
        says(b"{}", 500),
        says(b"<html>", Content_Type="text/html"),
        says(b'{"keys": ' + b"[" * 70_000, Content_Type=MEDIA),
        says(b"[]", Content_Type=MEDIA),
    ],
)
def test_what_is_no_directory_is_none(server: Server, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(IdentityUnavailableError):
        source(server).wanted(ONE.keyid).result(SECONDS)


def test_a_directory_that_fails_does_not_take_its_keys_along(server: Server) -> None:  # 68
    now = [0.0]
    keys = source(server, lambda: now[0])
    server.answer = says(json.dumps(ONE.jwks).encode(), Content_Type=MEDIA)
    assert ONE.keyid in keys.wanted(ONE.keyid).result(SECONDS).keys
    server.answer = says(b"", 500)
    now[0] = 3600.0
    believed = keys.snapshot()
    assert believed is not None
    assert ONE.keyid in believed.keys
    assert keys.wanted("unknown").result(SECONDS).keys.keys() == believed.keys.keys()
    now[0] = 100_000.0
    assert keys.snapshot() is None


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({"kty": "oct", "k": "AAAA"}, "no usable kid"),
        ({**ONE.jwk, "d": "AAAA"}, "secret"),
        ({**ONE.jwk, "use": "enc"}, "not for verifying"),
        ({**ONE.jwk, "alg": "RS256"}, "no algorithm"),
        ({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}, "no algorithm"),
        ({**ONE.jwk, "x": "AAAA"}, "cannot be read"),
        ({**ONE.jwk, "exp": "soon"}, "nbf or exp"),
        ({"kty": "OKP"}, "no usable kid"),
        ("x", "not an object"),
    ],
)
def test_keys_that_cannot_be_used(jwk: Any, why: str) -> None:
    found = read_directory({"keys": [jwk]})
    assert not found.keys
    assert why in found.dropped[0]


def test_the_fully_specified_name_of_the_algorithm_is_the_same() -> None:
    assert ONE.keyid in read_directory({"keys": [{**ONE.jwk, "alg": "Ed25519"}]}).keys


def test_keys_in_the_policy_have_to_be_good() -> None:
    from pathlib import Path

    from afmiddleware.config.load import load
    from afmiddleware.lookups.directories import directories

    text = """
version: 1
service: s
identity:
  public_origins: [https://api.example.com]
  web_bot_auth: {agents: [{origin: https://a.example, jwks: {keys: [{kty: OKP, crv: Ed25519, x: JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs}]}}]}
"""
    with pytest.raises(ConfigError, match="test key of RFC 9421"):
        directories(load(text), Path())
