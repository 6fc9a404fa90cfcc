"""Strict reading of form bodies: what passes is read alike by the form readers of all frameworks, or was refused.

They differ measurably in which of two fields of a name counts, in separators and in encodings. Source: WHATWG URL,
section 5 (urlencoded).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import MappingError
from afmiddleware.mapping.body import check_length
from afmiddleware.mapping.multipart import MAX_PARTS, Form, read_multipart
from afmiddleware.mapping.percent import decode, split
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, REQUEST_MEDIA_TYPE

if TYPE_CHECKING:
    from afmiddleware.model.http import HttpFacts

URLENCODED: Final = "urlencoded"
MULTIPART: Final = "multipart"

_URLENCODED = re.compile(rb"application/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset=\"?utf-8\"?)?", re.IGNORECASE)
_MULTIPART = re.compile(rb"multipart/form-data[ \t]*;[ \t]*boundary=(\"?)([0-9A-Za-z'+_.-]{1,70})\1", re.IGNORECASE)
_FORM = re.compile(rb"[ \t]*(?:application/x-www-form-urlencoded|multipart/)", re.IGNORECASE)


def is_form(facts: HttpFacts) -> bool:
    """Whether the body is labelled as a form of any kind, well or badly."""
    media = facts.first(b"content-type")
    return media is not None and _FORM.match(media) is not None


def parse_form(facts: HttpFacts, body: bytes, accepted: frozenset[str]) -> Form:
    """Read a form body of an accepted kind (`urlencoded`, `multipart`) as its fields.

    Raises `MappingError`: `request.media_type` for another label or a Content-Encoding, `request.ambiguous` for a body
    that two readers could read in two ways, a length that is not the announced one, or a field called `_method`.
    """
    check_length(facts, body)
    if facts.first(b"content-encoding") is not None:
        raise MappingError(REQUEST_MEDIA_TYPE, "send the body without Content-Encoding")
    media = facts.first(b"content-type") or b""
    boundary = _MULTIPART.fullmatch(media)
    if boundary is not None and MULTIPART in accepted:
        form = read_multipart(body, boundary.group(2))
    elif URLENCODED in accepted and _URLENCODED.fullmatch(media) is not None:
        form = _urlencoded(body)
    else:
        raise MappingError(REQUEST_MEDIA_TYPE, f"send the body as a form ({' or '.join(sorted(accepted))}), in UTF-8")
    if len(form) > MAX_PARTS:
        raise _ambiguous(f"the form has more than {MAX_PARTS} fields")
    if any(name == "_method" for name, _ in form):
        raise _ambiguous("a _method field would change the method after it was judged")
    return form


def _urlencoded(body: bytes) -> Form:
    # An old reader splits at ';' too; browsers and clients encode it.
    if b";" in body:
        raise _ambiguous("the form holds a ';' that is not percent-encoded")
    if body.count(b"&") > MAX_PARTS:
        raise _ambiguous(f"the form has more than {MAX_PARTS} fields")
    return tuple((name, decode(value, "the form")) for name, value in split(body, "the form"))


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
