"""Fetching one small JSON document, guarded against hostile servers and against being turned on our own network."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 64 * 1024
TIMEOUT: Final = 3.0
_OK: Final = 200
_JSON_TYPES: Final = ("application/json", "application/jwk-set+json")


class FetchError(Exception):
    """Why a document could not be had. The text never holds what the server sent."""


def fetch_json(url: str, *, allow_private: bool, timer: Callable[[], float] = time.monotonic) -> Any:
    """GET a JSON document: HTTPS (plain HTTP from loopback only), no redirects, 64 KiB, three seconds in all.

    The name is resolved once and the address that was checked is the one connected to. Raises `FetchError`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host or parts.username is not None:
        msg = "not an http or https URL"
        raise FetchError(msg)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    end = timer() + TIMEOUT
    try:
        address = _checked_address(host, port, plain=parts.scheme == "http", allow_private=allow_private)
        connection = _Connection(host, port, address, secure=parts.scheme == "https")
        try:
            target = parts.path or "/"
            connection.request("GET", f"{target}?{parts.query}" if parts.query else target, headers=_HEADERS)
            answer = connection.getresponse()
            if answer.status != _OK:
                msg = f"the server answered {answer.status}"
                raise FetchError(msg)
            media = answer.headers.get_content_type()
            if media not in _JSON_TYPES and not media.endswith("+json"):
                msg = f"the answer is {media[:60]}, not JSON"
                raise FetchError(msg)
            if answer.headers.get("content-encoding", "identity") != "identity":
                msg = "the answer is compressed"
                raise FetchError(msg)
            data = _read(answer, connection, end, timer)
        finally:
            connection.close()
        return json.loads(data.decode("utf-8"))
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        msg = f"{type(error).__name__} while fetching"
        raise FetchError(msg) from error


_HEADERS: Final = {"accept": "application/json", "user-agent": "afmiddleware", "accept-encoding": "identity"}


def _read(answer: http.client.HTTPResponse, connection: _Connection, end: float, timer: Callable[[], float]) -> bytes:
    """The body, within the size and the time that are left; a server that drips does not hold us longer."""
    parts: list[bytes] = []
    size = 0
    while True:
        left = end - timer()
        if left <= 0:
            msg = "the answer took too long"
            raise FetchError(msg)
        if connection.sock is not None:
            connection.sock.settimeout(left)
        part = answer.read1(8192)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > MAX_BYTES:
            msg = f"the answer is larger than {MAX_BYTES} bytes"
            raise FetchError(msg)
        parts.append(part)


class _Connection(http.client.HTTPConnection):
    """A connection to one address, speaking to the server under its name."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._address = address
        self._secure = secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def _checked_address(host: str, port: int, *, plain: bool, allow_private: bool) -> str:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if plain and not address.is_loopback:
            msg = "plain http is for loopback addresses only"
            raise FetchError(msg)
        if not (address.is_global or allow_private or (plain and address.is_loopback)) or address.is_multicast:
            msg = "the name leads to an address that is not public; set allow_private to accept it"
            raise FetchError(msg)
    return addresses[0]
