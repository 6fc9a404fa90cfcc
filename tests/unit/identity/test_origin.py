"""The origin of a request is the policy's, whatever the request says of itself."""

from __future__ import annotations

import pytest

from afmiddleware.grammar.origins import origin_of
from afmiddleware.identity.origin import Origins
from tests.unit.identity.conftest import request


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.example.com:443/", "https://api.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_has_one_form(text, normal):
    assert origin_of(text) == normal


@pytest.mark.parametrize(
    "text",
    ["api.example.com", "ftp://a.example", "https://", "https://a.example/path", "https://u@a.example", "https://a b"],
)
def test_what_is_no_origin(text):
    with pytest.raises(ValueError, match="is not an origin"):
        origin_of(text)


def test_the_only_origin_stands_whatever_the_host_says():
    one = Origins(["https://api.example.com"])
    for host in (b"evil.example", b"api.example.com", b""):
        assert one.of(request((b"host", host))) == "https://api.example.com"
    assert one.of(request()) == "https://api.example.com"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"a.example", "https://a.example"),
        (b"A.EXAMPLE:443", "https://a.example"),
        (b"b.example:8080", "http://b.example:8080"),
        (b"b.example", None),
        (b"a.example:80", None),
        (b"evil.example", None),
    ],
)
def test_a_host_selects_among_several(host, origin):
    several = Origins(["https://a.example", "http://b.example:8080"])
    assert several.of(request((b"host", host))) == origin


def test_what_a_client_says_of_forwarding_is_not_read():  # 54
    several = Origins(["https://a.example", "https://b.example"])
    for name in (b"x-forwarded-host", b"forwarded", b"x-original-host"):
        assert several.of(request((b"host", b"a.example"), (name, b"host=b.example"))) == "https://a.example"
        assert several.of(request((name, b"b.example"))) is None


def test_no_origin_is_none():
    assert not Origins([])
    assert Origins([]).of(request((b"host", b"a.example"))) is None
