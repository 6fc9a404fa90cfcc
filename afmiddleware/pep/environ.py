"""A WSGI environment as the fence reads it: the head as facts, and the body with what it leaves for the application."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.ledger_url import MEMORY
from afmiddleware.errors import ClientGoneError, MappingError
from afmiddleware.ledger.workers import several_workers
from afmiddleware.mapping.body import too_large
from afmiddleware.model.codes import REQUEST_AMBIGUOUS
from afmiddleware.model.http import HttpFacts

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Header

_PIECE: Final = 64 * 1024
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
# A comma before another scheme and its credentials; the parameters of one scheme have a '=' there.
_NEXT_CREDENTIAL = re.compile(rb",[ \t]*(?=[\w!#$%&'*+.^`|~-]+[ \t]+[^\s=])")


def facts_of(environ: WSGIEnvironment, path: str | None = None) -> HttpFacts:
    """The head of a request as a WSGI server hands it over.

    The path is `SCRIPT_NAME` and `PATH_INFO` together. The path as sent comes from `REQUEST_URI` (mod_wsgi, uWSGI,
    Werkzeug) or `RAW_URI` (gunicorn); a whole target stands for the path when it holds a '#', so that it is refused.
    WSGI servers join repeated headers with a comma: an `Authorization` or `Content-Type` that was joined is taken
    apart again, so that it counts as repeated. Headers with an underscore in their name have become one with those
    that have a hyphen, or were dropped by the server: neither can be seen here. `path` is the decoded path where it is
    known already, because a framework has replaced it in the environment.
    """
    target = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    raw = None
    if target:
        raw = (target if "#" in target else target.partition("?")[0]).encode("latin-1")
    return HttpFacts(
        method=environ["REQUEST_METHOD"],
        path=path_of(environ) if path is None else path,
        raw_path=raw,
        query=environ.get("QUERY_STRING", "").encode("latin-1"),
        headers=_headers(environ),
        scheme=environ.get("wsgi.url_scheme", "http"),
        peer=environ.get("REMOTE_ADDR") or "",
    )


def path_of(environ: WSGIEnvironment) -> str:
    """The decoded path, from the server's root down. What is no UTF-8 has U+FFFD in its place."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace") if path else "/"


def _headers(environ: WSGIEnvironment) -> tuple[Header, ...]:
    headers = [(_name(key), value.encode("latin-1")) for key, value in environ.items() if key[:5] == "HTTP_"]
    for key in _CONTENT:
        value = environ.get(key)
        if value:
            header = (_name(f"HTTP_{key}"), value.encode("latin-1"))
            # Some servers hand these two over under both keys; when they differ, both are there to be refused.
            if header not in headers:
                headers.append(header)
    if "," in environ.get("HTTP_AUTHORIZATION", "") or "," in environ.get("CONTENT_TYPE", ""):
        headers = [(name, part) for name, value in headers for part in _apart(name, value)]
    return tuple(headers)


@lru_cache(maxsize=512)
def _name(key: str) -> bytes:
    return key[5:].lower().replace("_", "-").encode("latin-1")


_CONTENT: Final = ("CONTENT_TYPE", "CONTENT_LENGTH")


def _apart(name: bytes, value: bytes) -> list[bytes]:
    if name == b"authorization":
        return _NEXT_CREDENTIAL.split(value)
    if name == b"content-type" and b"," in _QUOTED.sub(b"", value):
        return value.split(b",")
    return [value]


def check_processes(fence: Fence, environ: WSGIEnvironment) -> None:
    """Raise `ConfigError` for a ledger in memory where the server says that it runs several processes."""
    if environ.get("wsgi.multiprocess") and fence.config.ledger in MEMORY:
        several_workers("the server runs several")


class Body:
    """The body of one request: read at most once, and given back whole.

    `judged` is the stream that holds what was read, once it was.
    """

    __slots__ = ("environ", "facts", "judged")

    def __init__(self, environ: WSGIEnvironment, facts: HttpFacts) -> None:
        self.environ = environ
        self.facts = facts
        self.judged: io.BytesIO | None = None

    def read(self, cap: int) -> bytes:
        """Read the whole body and put it back as `wsgi.input`.

        Raises `MappingError` over `cap` bytes, and where the server does not say where a chunked body ends; what was
        read until then is put back too. Raises `ClientGoneError` when the body is shorter than it says.
        """
        if self.judged is not None:
            body = self.judged.getvalue()
            if len(body) > cap:
                raise too_large(cap)
            return body
        environ = self.environ
        length = environ.get("CONTENT_LENGTH")
        if length:
            body = self._counted(int(length), cap)
        elif environ.get("wsgi.input_terminated"):
            body = self._to_the_end(cap)
        elif "HTTP_TRANSFER_ENCODING" in environ:
            detail = "this server does not say where a chunked body ends; send Content-Length"
            raise MappingError(REQUEST_AMBIGUOUS, detail)
        else:
            body = b""
        self.judged = io.BytesIO(body)
        environ["wsgi.input"] = self.judged
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input_terminated"] = True
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return body

    def _counted(self, length: int, cap: int) -> bytes:
        if length > cap:
            raise too_large(cap)
        body = self._take(length)
        if len(body) != length:
            msg = f"the body has {len(body)} bytes and says that it has {length}"
            raise ClientGoneError(msg)
        return body

    def _to_the_end(self, cap: int) -> bytes:
        stream: Any = self.environ["wsgi.input"]
        body = self._take(cap + 1)
        if len(body) > cap:
            self.environ["wsgi.input"] = io.BufferedReader(_Rejoined(body, stream))
            raise too_large(cap)
        return body

    def _take(self, count: int) -> bytes:
        """Up to `count` bytes; fewer only where the stream ends."""
        stream: Any = self.environ["wsgi.input"]
        pieces: list[bytes] = []
        while count > 0:
            try:
                piece: bytes = stream.read(min(count, _PIECE))
            except Exception as error:
                # Servers raise errors of their own for a client that left or sends broken chunks.
                raise ClientGoneError(f"the body cannot be read: {type(error).__name__}") from error
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


class _Rejoined(io.RawIOBase):
    """What was read of a stream, and then the rest of it."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = len(buffer)
        piece = self._head[:size]
        if piece:
            self._head = self._head[size:]
        else:
            piece = self._rest.read(size)
        buffer[: len(piece)] = piece
        return len(piece)
