"""Refusal of requests that two readers could read in two ways, from the head alone.

It runs before routing, on every request, so the common clean request costs a few C calls and nothing more. Nothing is
ever normalised: a path that a proxy would rewrite and a router would not is refused, not repaired.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from afmiddleware.errors import MappingError
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.http import Header, HttpFacts

_COMMON_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_METHOD = re.compile(r"[A-Z]{1,32}", re.ASCII).fullmatch

# The plain path: ASCII, no percent sign, no empty segment but the last, no segment that starts with a point.
_FIRST: Final = rb"[\w~!$&'()*+,;=:@-]"
_PLAIN_PATH = re.compile(rb"/(?:%b[\w.~!$&'()*+,;=:@-]*+/)*+(?:%b[\w.~!$&'()*+,;=:@-]*+)?" % (_FIRST, _FIRST)).fullmatch
_PATH_ALPHABET = re.compile(rb"[!-~]*")
_BAD_TRIPLET = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_REFUSED_TRIPLET = re.compile(rb"%(?:2[Ff]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_QUERY = re.compile(rb"[!-\"$-~]*+")
# A parameter called _method, however it is spelled: form layers take the method of the request from it.
_METHOD_PARAMETER = re.compile(
    rb"(?:^|&)(?:_|%5[Ff])(?:m|%6[Dd])(?:e|%65)(?:t|%74)(?:h|%68)(?:o|%6[Ff])(?:d|%64)(?:=|&|$)",
)

# RFC 9110 section 5.6.2, without upper case (`HttpFacts` is lower case) and without the underscore.
_NAME_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz-0123456789!#$%&'*+.^`|~"
_HOST = re.compile(rb"(?:[\w.-]++|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_MAX_LENGTH_DIGITS: Final = 18
_DRY_RUN: Final = b"agent-dry-run"
_SINGLE: Final = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization", _DRY_RUN},
)
_REFUSED_NAMES: Final = frozenset(
    {
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"script-name",
        b"path-info",
    },
)


def screen(facts: HttpFacts) -> MappingError | None:
    """The reason why a head can be read in more than one way (`request.ambiguous`), `None` for a clear one.

    Checked are the method, the path (as sent and as decoded), the query as far as framing goes, and the headers: no
    name twice that must be single (Authorization among them), no override header, no underscore in a name, no
    conflicting framing, a Host that is `host[:port]`. What the body holds is `parse_json`'s, percent triplets of the
    query are looked at where a parameter is read. Sources: RFC 9112 sections 3.2, 5 and 6.3; RFC 3986 section 2.
    """
    try:
        _check(facts)
    except MappingError as error:
        return error
    return None


def _check(facts: HttpFacts) -> None:
    if facts.method not in _COMMON_METHODS and _METHOD(facts.method) is None:
        raise _ambiguous("the method is not made of the letters A to Z alone")
    raw, path = facts.raw_path, facts.path
    if raw is None:
        _check_decoded(path)
    else:
        decoded = _check_raw(raw) if _PLAIN_PATH(raw) is None else raw.decode("ascii")
        # A server that adds a root path, or a layer outside that rewrites, leaves the two different.
        if decoded != path:
            _check_decoded(path)
    query = facts.query
    if query:
        if _QUERY.fullmatch(query) is None:
            raise _ambiguous("the query holds a control character, a space or a '#'")
        if _METHOD_PARAMETER.search(query) is not None:
            raise _ambiguous("a _method parameter would change the method after it was judged")
    if facts.headers:
        _check_headers(facts)


def _check_raw(raw: bytes) -> str:
    """Judge a path as sent and return it decoded."""
    if not raw.startswith(b"/"):
        raise _ambiguous("the target does not start with '/'")
    if _PATH_ALPHABET.fullmatch(raw) is None:
        raise _ambiguous("the path holds a control character, a space or bytes that must be percent-encoded")
    for character in (b"\\", b"#", b"?"):
        if character in raw:
            raise _ambiguous(f"the path holds {character.decode()!r}")
    if b"//" in raw:
        raise _ambiguous("the path holds an empty segment ('//')")
    if b"%" not in raw:
        decoded = raw.decode("ascii")
    else:
        if _BAD_TRIPLET.search(raw) is not None:
            raise _ambiguous("the path holds a '%' that no two hexadecimal digits follow")
        if _REFUSED_TRIPLET.search(raw) is not None:
            raise _ambiguous("the path holds an encoded slash, backslash or control character")
        try:
            decoded = unquote_to_bytes(raw).decode("utf-8")
        except UnicodeDecodeError:
            raise _ambiguous("the path is not UTF-8") from None
    _check_characters(decoded)
    return decoded


def _check_decoded(path: str) -> None:
    """Judge a path of which only the decoded form is known, or whose raw form is another path."""
    if not path.startswith("/"):
        raise _ambiguous("the target does not start with '/'")
    for character in ("\\", "#", "?"):
        if character in path:
            raise _ambiguous(f"the path holds {character!r}")
    if "//" in path:
        raise _ambiguous("the path holds an empty segment ('//')")
    if "\ufffd" in path or _SURROGATE.search(path) is not None:
        raise _ambiguous("the path is not UTF-8")
    _check_characters(path)


def _check_characters(path: str) -> None:
    if _CONTROL.search(path) is not None:
        raise _ambiguous("the path holds a control character")
    if "/." in path and any(_is_dots(segment) for segment in path.split("/")):
        raise _ambiguous("the path holds a dot segment ('.' or '..')")


def _is_dots(segment: str) -> bool:
    # Some proxies drop ';parameters' before they look for dot segments.
    return segment.partition(";")[0] in {".", ".."}


def _check_headers(facts: HttpFacts) -> None:
    fields, headers = facts.fields, facts.headers
    # Lists, because joining a view costs three times as much.
    names, values = [*fields], [*fields.values()]
    if len(names) != len(headers):
        _check_single(headers)
        values = [value for _, value in headers]
    if b"".join(names).translate(None, _NAME_ALPHABET):
        raise _ambiguous("a header name holds an underscore, an upper-case letter or another unexpected character")
    if not _REFUSED_NAMES.isdisjoint(names):
        refused = min(_REFUSED_NAMES.intersection(names)).decode()
        raise _ambiguous(f"the header {refused} would change what is called after it was judged")
    text = b"".join(values).decode("latin-1")
    if "\n" in text or "\r" in text or "\0" in text:
        raise _ambiguous("a header value holds a line break or a NUL")
    if fields.get(_DRY_RUN, b"?0") not in {b"?1", b"?0"}:
        # Whoever only wants to ask must never be taken for one who wants it done.
        raise _ambiguous("Agent-Dry-Run is neither ?1 nor ?0")
    host = fields.get(b"host")
    if host is not None and _HOST(host) is None:
        raise _ambiguous("the Host header is not host[:port]")
    length = fields.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS):
        raise _ambiguous("Content-Length is not a whole number")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise _ambiguous("Content-Length and Transfer-Encoding are both there")
        if coding.lower() != b"chunked":
            raise _ambiguous("Transfer-Encoding is not chunked")


def _check_single(headers: Sequence[Header]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen:
            raise _ambiguous(f"the header {name.decode()} is there more than once")
        if name in _SINGLE:
            seen.add(name)


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
