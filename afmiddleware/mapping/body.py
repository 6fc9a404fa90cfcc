"""Strict reading of request bodies: what passes is read alike by every JSON reader, or was refused.

The rules come from measured differences between JSON readers: last or first of a duplicate key, a byte order mark,
UTF-16 guessed from the bytes, NaN, lone surrogates, numbers beyond a double. Sources: RFC 8259, RFC 7493 (I-JSON).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from afmiddleware.errors import MappingError
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, REQUEST_MEDIA_TYPE, REQUEST_TOO_LARGE
from afmiddleware.model.number import Number

if TYPE_CHECKING:
    from afmiddleware.model.http import HttpFacts

MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 4000  # below the 4300 at which Python's own int() and str() refuse

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_COMMON_MEDIA: Final = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"},
)
_TOKEN: Final = rb"[!#$%&'+.^`|~0-9A-Za-z_-]+"  # RFC 9110 section 5.6.2 without '*', which RFC 8187 gives a meaning
_MEDIA = re.compile(
    rb"application/(?:json|" + _TOKEN + rb"\+json)((?:[ \t]*;[ \t]*" + _TOKEN + rb"=(?:" + _TOKEN + rb'|"utf-8"))*)',
    re.IGNORECASE,
)
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb')=("?)(' + _TOKEN + rb")\2")


class _Refused(ValueError):  # noqa: N818 (it never leaves this file)
    """What the strict rules refuse and the standard reader would take."""


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Read one JSON document in strict UTF-8.

    Integers are `int`, other numbers `Number`. Raises `MappingError` (`request.ambiguous`) for a byte order mark,
    another encoding, a duplicate key at any depth, NaN or Infinity, a lone surrogate (escaped too), anything after the
    document, more than `max_depth` levels, or an integer of more than 4000 digits.
    """
    if data.count(b"[") + data.count(b"{") > max_depth and _deeper_than(data, max_depth):
        raise _ambiguous(f"the JSON body is nested more than {max_depth} levels deep, or not closed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _ambiguous("the body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise _ambiguous("the JSON body starts with a byte order mark")
    try:
        document = (_decode if len(data) < _MAX_DIGITS else _decode_long)(text)
    except _Refused as error:
        raise _ambiguous(str(error)) from None
    except (ValueError, RecursionError):
        raise _ambiguous("the body is not one JSON document") from None
    if "\\u" in text:
        _check_surrogates(document)
    return document


def check_cap(facts: HttpFacts, cap: int) -> None:
    """Return when the body the head announces fits. Raises `MappingError` (`request.too_large`) when it does not."""
    length = facts.first(b"content-length")
    if length is not None and length.isdigit() and int(length[:19]) > cap:
        raise too_large(cap)


def too_large(cap: int) -> MappingError:
    """The refusal of a body of more than `cap` bytes."""
    return MappingError(REQUEST_TOO_LARGE, f"the body is larger than {cap} bytes")


def check_length(facts: HttpFacts, body: bytes) -> None:
    """Return when `body` is as long as the head says. Raises `MappingError` (`request.ambiguous`) when it is not.

    A server may hand over what came before a connection broke; the handler must not act on half a request.
    """
    length = facts.fields.get(b"content-length")
    if length is not None and (not length.isdigit() or int(length[:19]) != len(body)):
        raise _ambiguous("the body is not as long as Content-Length says")


def check_media(facts: HttpFacts, body: bytes) -> None:
    """Return when `body` is plainly labelled JSON of the length the head announced.

    Accepted are `application/json` and `application/*+json`, with no charset or UTF-8, and without Content-Encoding.
    Raises `MappingError`: `request.media_type` for another label, `request.ambiguous` for another length.
    """
    check_length(facts, body)
    fields = facts.fields
    if b"content-encoding" in fields:
        raise MappingError(REQUEST_MEDIA_TYPE, "send the body without Content-Encoding")
    media = fields.get(b"content-type")
    if media not in _COMMON_MEDIA:
        _check_media_type(media)


def _check_media_type(media: bytes | None) -> None:
    match = None if media is None else _MEDIA.fullmatch(media)
    if match is None:
        raise MappingError(REQUEST_MEDIA_TYPE, "send the body as application/json")
    seen: set[bytes] = set()
    for name, _, value in _PARAMETER.findall(match.group(1)):
        lower = name.lower()
        if lower in seen or (lower == b"charset" and value.lower() != b"utf-8"):
            raise MappingError(REQUEST_MEDIA_TYPE, "send the body as application/json in UTF-8")
        seen.add(lower)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "the JSON body holds the same key twice"
        raise _Refused(msg)
    return members


def _constant(_text: str) -> NoReturn:
    msg = "the JSON body holds NaN or Infinity"
    raise _Refused(msg)


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        msg = f"the JSON body holds an integer of more than {_MAX_DIGITS} digits"
        raise _Refused(msg)
    return int(text)


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_float=Number, parse_constant=_constant).decode
# Only a body this long can hold a number that long, so the others are spared a call for each integer.
_decode_long = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=Number,
    parse_constant=_constant,
    parse_int=_integer,
).decode


def _deeper_than(data: bytes, levels: int) -> bool:
    """Whether brackets outside strings nest deeper than `levels`. Linear in the body; each round peels one level."""
    brackets = _STRINGS.sub(b"", data).translate(_BRACKETS, _NOT_BRACKETS)
    run = b"[" * (levels + 1)
    for _ in range(levels):
        if not brackets:
            return False
        if run in brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _check_surrogates(value: object) -> None:
    """Refuse a string that UTF-8 cannot carry. Asked only where an escape could have made one."""
    if isinstance(value, str):
        if _SURROGATE.search(value) is not None:
            raise _ambiguous("the JSON body holds half of a surrogate pair")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_surrogates(key)
            _check_surrogates(member)
    elif isinstance(value, list):
        for member in value:
            _check_surrogates(member)


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
