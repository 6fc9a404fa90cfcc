"""Callers without a credential, told apart by address."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from afmiddleware.model.http import HttpFacts


def anonymous(facts: HttpFacts) -> Actor:
    """The actor of a request without a credential, when its connection is the client's."""
    return stranger(facts.peer)


def peer_of(facts: HttpFacts) -> str:
    """The address at the other end of the connection."""
    return facts.peer


def stranger(client: str) -> Actor:
    """The actor of a request without a credential, from the address of its client."""
    return Actor(id=f"address:{address_key(client)}", tier=Tier.ANONYMOUS)


@lru_cache(maxsize=4096)
def address_key(peer: str) -> str:
    """The prefix that stands for an address: all of an IPv4 one, the first 64 bits of an IPv6 one.

    An IPv4 address in IPv6 clothes is the IPv4 one; what is no address shares the bucket `unknown`.
    """
    if peer.count(".") == 3 and ":" not in peer and len(peer) <= 15:  # noqa: PLR2004 (dotted quad)
        try:
            return f"{IPv4Address(peer)}/32"
        except ValueError:
            return "unknown"
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        inner = embedded(address)
        if inner is None:
            return f"{IPv6Address(int(address) >> 64 << 64)}/64"
        return f"{inner}/32"
    return f"{address}/32"


def block_key(text: str) -> str:
    """The prefix that an operator means: that of an address, or a block that addresses are known to lie in.

    Raises `ValueError` for anything else.
    """
    if text == "unknown":
        return text
    host, _, bits = text.partition("/")
    key = address_key(host)
    if key == "unknown":
        msg = f"{text[:60]!r} is no address"
        raise ValueError(msg)
    if not bits:
        return key
    block = ip_network(text, strict=False)
    if isinstance(block, IPv6Network) and embedded(block.network_address) is not None:
        msg = f"{text[:60]!r} is an IPv4 address in IPv6; write {key}"
        raise ValueError(msg)
    known = (64, 56, 48) if block.version == 6 else (32, 24, 16)  # noqa: PLR2004 (IPv6)
    if block.prefixlen not in known:
        msg = f"addresses are told apart by {', '.join(f'/{one}' for one in known)}, not by /{block.prefixlen}"
        raise ValueError(msg)
    return str(block)


def embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address an IPv6 one leads to: mapped (RFC 4291), 6to4 (RFC 3056), NAT64 at 64:ff9b::/96 (RFC 6052)."""
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and int(address) >> 32 == 0x64FF9B << 64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return inner
