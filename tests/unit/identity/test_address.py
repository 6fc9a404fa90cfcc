"""Callers without a credential share a limit with whoever has their address, however it is written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.identity.address import address_key, anonymous, block_key
from afmiddleware.model.actor import Actor
from tests.unit.identity.conftest import request

KEYS = [
    ("203.0.113.7", "203.0.113.7/32"),
    ("0.0.0.0", "0.0.0.0/32"),  # noqa: S104 (a value)
    ("127.0.0.1", "127.0.0.1/32"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("2001:0DB8:0001:0002::", "2001:db8:1:2::/64"),
    ("::1", "::/64"),
    ("fe80::1%eth0", "fe80::/64"),
    ("fe80::1%eth1", "fe80::/64"),
    ("::ffff:203.0.113.7", "203.0.113.7/32"),
    ("::FFFF:cb00:7107", "203.0.113.7/32"),
    ("::ffff:203.0.113.7%eth0", "203.0.113.7/32"),
    ("2002:cb00:7107:1::9", "203.0.113.7/32"),
    ("64:ff9b::203.0.113.7", "203.0.113.7/32"),
    ("64:ff9b:1::203.0.113.7", "64:ff9b:1::/64"),
]


@pytest.mark.parametrize(("peer", "key"), KEYS)
def test_an_address_is_known_by_its_prefix(peer, key):
    assert address_key(peer) == key


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "unix:",
        "/run/app.sock",
        "testclient",
        "203.0.113.7:80",
        "[::1]",
        "[::1]:80",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.04",
        "0x7f.0.0.1",
        "::g",
        "1.2.3.4/8",
        " 1.2.3.4",
        "1.2.3.4\n",
        "١.٢.٣.٤",
        "é",
        "%eth0",
        "1" * 99,
    ],
)
def test_what_is_no_address_shares_one_bucket(peer):
    assert address_key(peer) == "unknown"


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_has_a_bucket_of_its_own(address):
    assert address_key(str(address)) == f"{address}/32"
    assert address_key(f"::ffff:{address}") == f"{address}/32"


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_addresses_of_a_64_share_a_bucket(address, low):
    one = IPv6Address(int(address) >> 64 << 64 | low)
    key = address_key(str(one))
    network = ip_network(key)
    if isinstance(network.network_address, IPv4Address):
        assert network.prefixlen == 32
    else:
        assert one in network
        assert network.prefixlen == 64


@given(st.text(max_size=40))
def test_no_text_makes_it_stumble(text):
    assert address_key(text)


def test_nobody_is_an_actor_with_an_address():
    found = anonymous(request(peer="203.0.113.7"))
    assert found == Actor(id="address:203.0.113.7/32")
    assert found.anonymous
    assert found.proof == "none"
    assert anonymous(request(peer="")).id == "address:unknown"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.9/24", "192.0.2.0/24"),
        ("192.0.2.9/16", "192.0.0.0/16"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::/48", "2001:db8:1::/48"),
        ("2001:DB8::1/56", "2001:db8::/56"),
        ("unknown", "unknown"),
    ],
)
def test_a_block_is_named_as_its_counters_are(text: str, key: str) -> None:
    assert block_key(text) == key


@pytest.mark.parametrize(
    "text", ["", "x", "192.0.2.1/8", "192.0.2.1/33", "2001:db8::/65", "::ffff:192.0.2.1/128", "1.2.3"]
)
def test_a_block_that_no_counter_has_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        block_key(text)
