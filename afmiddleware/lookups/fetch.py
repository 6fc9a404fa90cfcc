"""Fetching or sending one small JSON document, guarded against hostile servers and against our own network."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import re
import socket
import ssl
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

from afmiddleware.identity.address import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

MAX_BYTES: Final = 64 * 1024
TIMEOUT: Final = 3.0
MAX_ETAG: Final = 256
_OK: Final = 200
_UNCHANGED: Final = 304
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})", re.ASCII)
_JSON_TYPES: Final = ("application/json", "application/jwk-set+json")
_INTERNET_V6: Final = ipaddress.IPv6Network("2000::/3")


class FetchError(Exception):
    """Why a document could not be had. The text never holds what the server sent.

    `retry_after` is how many seconds the server asks to be left alone, 0 when it does not say.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Document(NamedTuple):
    """A JSON document, how many seconds it says it is fresh (`Cache-Control`), and what names its version (`ETag`).

    `unchanged` means that it is still the one whose version was given.
    """

    value: Any
    max_age: float | None = None
    etag: str = ""
    unchanged: bool = False


class Form(NamedTuple):
    """What to POST (`application/x-www-form-urlencoded`), and the value of `Authorization` to go with it."""

    fields: Mapping[str, str]
    authorization: str


def fetch_json(url: str, *, allow_private: bool, timer: Callable[[], float] = time.monotonic) -> Any:
    """GET a JSON document, as `fetch_document` does."""
    return fetch_document(url, allow_private=allow_private, timer=timer).value


def fetch_document(
    url: str,
    *,
    allow_private: bool,
    etag: str = "",
    form: Form | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Document:
    """GET a JSON document: HTTPS (plain HTTP from loopback only), no redirects, 64 KiB, three seconds in all.

    With a `form` it is POSTed. `etag` is that of the document at hand, if any. The name is resolved once, before the
    seconds count, and only addresses that were checked are connected to. Raises `FetchError`.
    """
    if form is None:
        sent = _answered("GET", url, None, {"if-none-match": etag} if etag else {}, allow_private, timer)
    else:
        more = {"content-type": "application/x-www-form-urlencoded", "authorization": form.authorization}
        sent = _answered("POST", url, urlencode(form.fields).encode(), more, allow_private, timer)
    with sent as answer:
        if etag and answer.status == _UNCHANGED:
            return Document(None, _max_age(answer), etag, unchanged=True)
        _check_head(answer)
        data = answer.read(MAX_BYTES + 1)
        version = answer.headers.get("etag", "")
        if len(data) > MAX_BYTES:
            msg = f"the answer is larger than {MAX_BYTES} bytes"
            raise FetchError(msg)
        known = version if version.isascii() and version.isprintable() and len(version) <= MAX_ETAG else ""
        return Document(json.loads(data.decode("utf-8")), _max_age(answer), known)


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
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    with _answered("POST", url, body, headers, allow_private, timer) as answer:
        if answer.status // 100 != _OK // 100:
            msg = f"the server answered {answer.status}"
            raise FetchError(msg)


@contextmanager
def _answered(  # noqa: PLR0913 (what a request is made of)
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    allow_private: bool,  # noqa: FBT001 (the caller's own)
    timer: Callable[[], float],
) -> Generator[http.client.HTTPResponse]:
    """Send a request, and hand over the answer. Raises `FetchError`, also for what goes wrong while it is read."""
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
            target = f"{target}?{parts.query}" if parts.query else target
            connection.request(method, target, body, {**_HEADERS, **headers})
            # A server that closes after its answer leaves the answer as the one owner of the socket.
            with connection.getresponse() as answer:
                yield answer
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        msg = f"{type(error).__name__} while fetching"
        raise FetchError(msg) from error


_HEADERS: Final = {"accept": "application/json", "user-agent": "afmiddleware", "accept-encoding": "identity"}


def _check_head(answer: http.client.HTTPResponse) -> None:
    if answer.status != _OK:
        msg = f"the server answered {answer.status}"
        wait = answer.headers.get("retry-after", "")
        raise FetchError(msg, retry_after=float(wait) if _SECONDS.fullmatch(wait) else 0.0)
    media = answer.headers.get_content_type()
    if media not in _JSON_TYPES and not media.endswith("+json"):
        msg = "the answer is not JSON by its content type"
        raise FetchError(msg)
    if answer.headers.get("content-encoding", "identity") != "identity":
        msg = "the answer is compressed"
        raise FetchError(msg)


def _max_age(answer: http.client.HTTPResponse) -> float | None:
    """How long an answer says it is fresh (RFC 9111 section 5.2.2), in seconds; `None` when it does not say."""
    said = answer.headers.get("cache-control", "").lower()
    if "no-store" in said or "no-cache" in said:
        return 0.0
    found = _MAX_AGE.search(said)
    return float(found.group(1)) if found is not None else None


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
