"""Fetching or sending one small JSON document, guarded against hostile servers and against our own network."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import socket
import ssl
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from afmiddleware.identity.address import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_BYTES: Final = 64 * 1024
TIMEOUT: Final = 3.0
_OK: Final = 200
_JSON_TYPES: Final = ("application/json", "application/jwk-set+json")
_INTERNET_V6: Final = ipaddress.IPv6Network("2000::/3")


class FetchError(Exception):
    """Why a document could not be had. The text never holds what the server sent."""


def fetch_json(url: str, *, allow_private: bool, timer: Callable[[], float] = time.monotonic) -> Any:
    """GET a JSON document: HTTPS (plain HTTP from loopback only), no redirects, 64 KiB, three seconds in all.

    The name is resolved once, before the seconds count, and only addresses that were checked are connected to. Raises
    `FetchError`.
    """
    data = _exchange("GET", url, None, _HEADERS, _check_head, allow_private=allow_private, timer=timer)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{type(error).__name__} while fetching"
        raise FetchError(msg) from error


def post_json(
    url: str,
    body: bytes,
    *,
    token: str = "",
    allow_private: bool,
    timer: Callable[[], float] = time.monotonic,
) -> None:
    """POST a JSON document, guarded in the same way; an answer other than 2xx is a fault. Raises `FetchError`.

    `token` goes along as a bearer token, to nobody but the server the URL names.
    """
    headers = {**_HEADERS, "content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    _exchange("POST", url, body, headers, _check_taken, allow_private=allow_private, timer=timer)


def _exchange(  # noqa: PLR0913 (what a request is made of)
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    check: Callable[[http.client.HTTPResponse], None],
    *,
    allow_private: bool,
    timer: Callable[[], float],
) -> bytes:
    try:
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        if parts.scheme not in ("https", "http") or not host or parts.username is not None:
            msg = "not an http or https URL"
            raise FetchError(msg)
        port = parts.port or (443 if secure else 80)
        addresses = _checked_addresses(host, port, plain=not secure, allow_private=allow_private)
        left = _Left(timer() + TIMEOUT, timer)
        target = parts.path or "/"
        with closing(_Connection(host, port, addresses, left, secure=secure)) as connection:
            whole = f"{target}?{parts.query}" if parts.query else target
            connection.request(method, whole, body=body, headers=dict(headers))
            # A server that closes after its answer leaves the answer as the one owner of the socket.
            with connection.getresponse() as answer:
                check(answer)
                data = answer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            msg = f"the answer is larger than {MAX_BYTES} bytes"
            raise FetchError(msg)
    except (OSError, http.client.HTTPException, ValueError) as error:
        msg = f"{type(error).__name__} while fetching"
        raise FetchError(msg) from error
    return data


_HEADERS: Final = {"accept": "application/json", "user-agent": "afmiddleware", "accept-encoding": "identity"}


def _check_taken(answer: http.client.HTTPResponse) -> None:
    if answer.status // 100 != _OK // 100:
        msg = f"the server answered {answer.status}"
        raise FetchError(msg)


def _check_head(answer: http.client.HTTPResponse) -> None:
    if answer.status != _OK:
        msg = f"the server answered {answer.status}"
        raise FetchError(msg)
    media = answer.headers.get_content_type()
    if media not in _JSON_TYPES and not media.endswith("+json"):
        msg = "the answer is not JSON by its content type"
        raise FetchError(msg)
    if answer.headers.get("content-encoding", "identity") != "identity":
        msg = "the answer is compressed"
        raise FetchError(msg)


class _Left:
    """The seconds that are left for a fetch, however slowly its parts drip in."""

    def __init__(self, end: float, timer: Callable[[], float]) -> None:
        self._end = end
        self._timer = timer

    def __call__(self) -> float:
        left = self._end - self._timer()
        if left <= 0:
            msg = "the answer took too long"
            raise FetchError(msg)
        return left


class _Connection(http.client.HTTPConnection):
    """A connection to one of the checked addresses, speaking to the server under its name."""

    def __init__(self, host: str, port: int, addresses: Sequence[str], left: _Left, *, secure: bool) -> None:
        super().__init__(host, port)
        self._addresses = addresses
        self._left = left
        self._secure = secure

    def connect(self) -> None:
        sock = self._reached()
        if self._secure:
            # The handshake ends in time as a whole, as does the sending of a request this small.
            sock.settimeout(self._left())
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        sock.settimeout(self._left())
        self.sock = cast("socket.socket", _Timed(sock, self._left))

    def _reached(self) -> socket.socket:
        for place, address in enumerate(self._addresses[:-1]):
            # An equal share of the time, so that one that never answers leaves the next a chance.
            share = self._left() / (len(self._addresses) - place)
            try:
                return socket.create_connection((address, self.port), share)
            except OSError:
                continue
        return socket.create_connection((self._addresses[-1], self.port), self._left())


class _Timed:
    """What `http.client` needs of a socket, with every read bounded by the time that is left."""

    def __init__(self, sock: socket.socket, left: _Left) -> None:
        self._sock = sock
        self._left = left
        self.sendall = sock.sendall
        self.close = sock.close

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._left))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, left: _Left) -> None:
        self._sock = sock
        self._left = left
        # It keeps the connection open until it is closed itself, as `http.client` expects.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _checked_addresses(host: str, port: int, *, plain: bool, allow_private: bool) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            address = embedded(address) or address
        if plain and not address.is_loopback:
            msg = "plain http is for loopback addresses only"
            raise FetchError(msg)
        if address.is_multicast or address.is_link_local:
            # Link-local is where clouds keep the credentials of a machine; no issuer lives there.
            msg = "the name leads to an address that is not public and never accepted"
            raise FetchError(msg)
        if not (_public(address) or allow_private or (plain and address.is_loopback)):
            msg = "the name leads to an address that is not public; set allow_private to accept it"
            raise FetchError(msg)
    return addresses


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is on the internet.

    Of IPv6 only 2000::/3 is given out; elsewhere Python also calls global what translates to any IPv4 address.
    """
    return address.is_global and (isinstance(address, ipaddress.IPv4Address) or address in _INTERNET_V6)
