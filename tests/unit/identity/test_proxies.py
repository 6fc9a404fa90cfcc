"""Where a request comes from: no header can move its sender out of the bucket that is its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.identity.address import address_key
from afmiddleware.identity.proxies import Proxies, address_of
from afmiddleware.model.http import HttpFacts

PROXY, CLIENT, SPOOF = "10.0.0.1", "203.0.113.9", "1.1.1.1"
TRUSTED = Proxies(["10.0.0.0/8", "fd00::/8"])
FORWARDED = Proxies(["10.0.0.0/8"], header=b"forwarded")


def facts(peer: str, *lines: str, name: str = "x-forwarded-for") -> HttpFacts:
    headers = tuple((name.encode(), line.encode("latin-1")) for line in lines)
    return HttpFacts(method="GET", path="/", headers=headers, peer=peer)


def test_without_proxies_no_header_is_read() -> None:  # 69
    direct = Proxies()
    for name in ("x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"):
        assert direct.client(facts(CLIENT, SPOOF, name=name)) == CLIENT
    assert not direct.believes(facts(CLIENT))
    assert not direct.believes(facts(""))


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        (CLIENT, [SPOOF], CLIENT),  # not from a proxy
        (PROXY, [f"{SPOOF}, {CLIENT}"], CLIENT),  # 70
        (PROXY, [SPOOF, CLIENT], CLIENT),
        (PROXY, [f"{SPOOF}, {CLIENT}, 10.0.0.7"], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, ["10.0.0.9, 10.0.0.8, 10.0.0.7"], "10.0.0.9"),  # 71: all of them proxies
        (PROXY, [f"{CLIENT}, 10.0.0.9, 10.0.0.8, 10.0.0.7"], "10.0.0.9"),  # and no further than three
        (PROXY, [f"{SPOOF}, garbage"], PROXY),  # 72
        (PROXY, [f"{SPOOF}, "], PROXY),
        (PROXY, [""], PROXY),
        (PROXY, [f"{SPOOF}, garbage, 10.0.0.7"], "10.0.0.7"),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, ["2001:DB8::1%eth0"], "2001:db8::1"),
        (PROXY, ["unknown"], PROXY),
        (PROXY, ["_hidden"], PROXY),
        (PROXY, ["1" * 5000], PROXY),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        ("fd00::1", [CLIENT], CLIENT),
        (PROXY, [f"{SPOOF}, ::ffff:10.0.0.7"], SPOOF),
        ("", [CLIENT], ""),
    ],
)
def test_the_walk_from_the_right(peer: str, lines: list[str], client: str) -> None:
    assert TRUSTED.client(facts(peer, *lines)) == client


@pytest.mark.parametrize(
    ("line", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"for={SPOOF}, for={CLIENT};proto=https;by=10.0.0.1", CLIENT),
        (f'FOR="{CLIENT}:80"', CLIENT),
        ('for="[2001:db8::1]:80"', "2001:db8::1"),
        (f"for={SPOOF}, for={CLIENT}, for=10.0.0.7", CLIENT),
        (f"for={CLIENT};for={SPOOF}", PROXY),
        (f'for="{SPOOF}, for={CLIENT}', PROXY),
        (f"for={SPOOF}, proto=https", PROXY),
        ("for=unknown", PROXY),
        ("for=_secret", PROXY),
        ("", PROXY),
        ("for", PROXY),
        (f'a="\\", for={SPOOF}', PROXY),
    ],
)
def test_forwarded(line: str, client: str) -> None:
    assert FORWARDED.client(facts(PROXY, line, name="forwarded")) == client


def test_a_line_that_a_client_broke_does_not_hide_what_the_proxy_added() -> None:
    assert FORWARDED.client(facts(PROXY, 'for="', f"for={CLIENT}", name="forwarded")) == CLIENT


def test_only_the_one_header_is_read() -> None:
    assert TRUSTED.client(facts(PROXY, f"for={SPOOF}", name="forwarded")) == PROXY
    assert FORWARDED.client(facts(PROXY, SPOOF)) == PROXY
    single = Proxies(["10.0.0.0/8"], header=b"cf-connecting-ip")
    assert single.client(facts(PROXY, CLIENT, name="cf-connecting-ip")) == CLIENT
    assert single.client(facts(PROXY, SPOOF, CLIENT, name="cf-connecting-ip")) == PROXY
    assert single.client(facts(PROXY, f"{SPOOF}, {CLIENT}", name="cf-connecting-ip")) == PROXY
    assert single.client(facts(CLIENT, SPOOF, name="cf-connecting-ip")) == CLIENT


def test_a_unix_socket_is_a_proxy_only_where_it_is_named_so() -> None:
    assert Proxies(["10.0.0.0/8"]).client(facts("", CLIENT)) == ""
    local = Proxies(trust_unix=True)
    assert local.client(facts("", f"{SPOOF}, {CLIENT}")) == CLIENT
    assert local.client(facts(CLIENT, SPOOF)) == CLIENT


@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=80), st.sampled_from(["x-forwarded-for", "forwarded"])
)
def test_whatever_a_client_writes_the_proxys_word_counts(junk: str, name: str) -> None:
    """What the proxy appends is its own element, or its own line."""
    proxies = TRUSTED if name == "x-forwarded-for" else FORWARDED
    said = CLIENT if name == "x-forwarded-for" else f"for={CLIENT}"
    assert proxies.client(facts(PROXY, junk, said, name=name)) == CLIENT
    # In one line with the junk the client can at most fall back to the bucket of the proxy.
    assert proxies.client(facts(PROXY, f"{junk}, {said}", name=name)) in (CLIENT, PROXY)


@given(st.text(max_size=60))
def test_an_element_is_an_address_or_nothing(text: str) -> None:
    found = address_of(text)
    assert not found or address_key(found) != "unknown"


@pytest.mark.parametrize(
    ("peer", "lines", "chunked", "unclear"),
    [
        (PROXY, [SPOOF, CLIENT], True, True),
        (PROXY, [SPOOF, CLIENT], False, False),
        (PROXY, [f"{SPOOF}, {CLIENT}"], True, False),
        (PROXY, [], True, False),
        (CLIENT, [SPOOF, CLIENT], True, False),
    ],
)
def test_a_line_that_may_be_a_trailer(peer: str, lines: list[str], chunked: bool, unclear: bool) -> None:
    asked = facts(peer, *lines)
    if chunked:
        more = ((b"transfer-encoding", b"chunked"), *asked.headers)
        asked = HttpFacts(method="POST", path="/", headers=more, peer=peer)
    assert TRUSTED.unclear(asked) is unclear
    assert not Proxies().unclear(asked)
    if unclear:
        assert TRUSTED.client(asked) == peer


def test_what_the_server_has_read_may_have_been_a_trailer() -> None:
    server = Proxies(server=True)
    two = facts(SPOOF, CLIENT, SPOOF).headers
    chunked = HttpFacts(method="POST", path="/", headers=((b"transfer-encoding", b"chunked"), *two), peer=SPOOF)
    assert (server.unclear(chunked), server.client(chunked)) == (True, "")
    for clear in (facts(SPOOF, CLIENT, SPOOF), facts(CLIENT, CLIENT)):
        assert (server.unclear(clear), server.client(clear)) == (False, clear.peer)
