"""Where a request comes from, when proxies stand in between: only those that the policy names are believed.

A forwarding header is written by whoever sends the request, and each proxy adds what it saw at its end. So it is read
from the right, and no further than to the first address that is not one of the named proxies.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from afmiddleware.model.http import HttpFacts

FORWARDED: Final = b"forwarded"
X_FORWARDED_FOR: Final = b"x-forwarded-for"
MAX_LINE: Final = 4096
_PORT = r"(?::[0-9]{1,5})?"
_V4 = re.compile(rf"([0-9.]{{7,15}}){_PORT}", re.ASCII)
_BRACKETS = re.compile(rf"\[([0-9A-Fa-f:.]{{2,45}})(?:%[\w.~-]{{1,32}})?\]{_PORT}", re.ASCII)
_V6 = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:%[\w.~-]{1,32})?", re.ASCII)
_TOKEN = r"[\w!#$%&'*+.^`|~-]+"  # noqa: S105 (RFC 9110 section 5.6.2)
_PAIR = rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")'
_ELEMENT = re.compile(rf"[ \t]*{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*[ \t]*", re.ASCII)
_EACH_PAIR = re.compile(_PAIR, re.ASCII)


class Proxies:
    """Tells the address of the client. Without `networks` it is that of the connection, whatever a header says.

    `networks` are the addresses of the proxies; `header` is the one header that they write, in lower case: `forwarded`
    (RFC 7239), `x-forwarded-for`, or one that holds a single address. At most `max_hops` of its addresses are read.
    `trust_unix` takes a connection over a Unix socket, which has no address, for one from a proxy. With `server` the
    server has read the header already, and the address of the connection is what it made of that.
    """

    def __init__(
        self,
        networks: Sequence[str] = (),
        *,
        header: bytes = X_FORWARDED_FOR,
        max_hops: int = 3,
        trust_unix: bool = False,
        server: bool = False,
    ) -> None:
        self._server = server
        known = tuple(ip_network(network) for network in networks)
        self._named: Callable[[str], bool] = lru_cache(maxsize=4096)(partial(_within, known))
        self._any = bool(known) or trust_unix
        self._header = header
        self._max_hops = max_hops
        self._trust_unix = trust_unix

    def believes(self, facts: HttpFacts) -> bool:
        """Whether a request comes straight from a proxy that the policy names."""
        return self._any and (self._named(facts.peer) if facts.peer else self._trust_unix)

    def unclear(self, facts: HttpFacts) -> bool:
        """Whether it cannot be told if a line of the header is the proxy's, or a trailer of the client's.

        Some servers take a trailer that comes in one packet with the head for a header (uvicorn with httptools). Only
        what is chunked has trailers; a proxy writes its header too, so that it stands there twice then.
        """
        if b"transfer-encoding" not in facts.fields or not (self._any or self._server):
            return False
        return len(facts.all(self._header)) > 1 and (self._server or self.believes(facts))

    def client(self, facts: HttpFacts) -> str:
        """The address of the client; empty when it is not known.

        What cannot be read ends the walk: the client is then taken for the last proxy that could be told.
        """
        found = facts.peer
        if self._server:
            return "" if self.unclear(facts) else found
        if not self._any or not self.believes(facts) or self.unclear(facts):
            return found
        for hop in self._hops(facts):
            address = address_of(hop)
            if not address:
                return found
            found = address
            if not self._named(address):
                return found
        return found

    def _hops(self, facts: HttpFacts) -> list[str]:
        """What the header says, from the right, as far as it is read."""
        lines = [line.decode("latin-1") for line in facts.all(self._header)]
        if self._header not in (FORWARDED, X_FORWARDED_FOR):
            return lines if len(lines) == 1 else [""] * len(lines)
        hops: list[str] = []
        for line in reversed(lines):
            if len(line) > MAX_LINE:
                hops.append("")
            else:
                hops += _forwarded(line) if self._header == FORWARDED else reversed(line.split(","))
            if len(hops) >= self._max_hops:
                break
        return hops[: self._max_hops]


@lru_cache(maxsize=4096)
def address_of(text: str) -> str:
    """The address in one element of a forwarding header; empty for what is none.

    A port, brackets and a zone are left away (RFC 7239 section 6; RFC 4007 section 11).
    """
    text = text.strip(" \t")
    match = _V4.fullmatch(text) or _BRACKETS.fullmatch(text) or _V6.fullmatch(text)
    try:
        return str(ip_address(match.group(1))) if match is not None else ""
    except ValueError:
        return ""


def _forwarded(line: str) -> list[str]:
    """The `for` of each element of a `Forwarded` line, from the right; one that cannot be read is empty."""
    found: list[str] = []
    place = 0
    while True:
        match = _ELEMENT.match(line, place)
        if match is None or (match.end() < len(line) and line[match.end()] != ","):
            return [""]
        pairs = [(name.lower(), token or quoted) for name, token, quoted in _EACH_PAIR.findall(match.group())]
        told = [value for name, value in pairs if name == "for"]
        found.append(told[0] if len(told) == 1 else "")
        if match.end() == len(line):
            return found[::-1]
        place = match.end() + 1


def _within(networks: Sequence[IPv4Network | IPv6Network], text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return any(address.version == network.version and address in network for network in networks)
