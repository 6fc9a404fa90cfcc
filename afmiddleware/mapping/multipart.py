"""Strict reading of multipart bodies: only those of the one plain form that every reader understands alike.

Readers differ measurably on what follows the terminator, on transfer encodings, `name*`, backslashes, bare line feeds
and what stands before the first part. Sources: RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import re
from typing import Final

from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData, Preamble

from afmiddleware.errors import MappingError
from afmiddleware.mapping.charset import is_utf8
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

Form = tuple[tuple[str, str | None], ...]
"""The fields of a form in order; a file has no value here."""

MAX_PARTS: Final = 1000
"""The most fields of one form; where the frameworks have a limit of their own, none is lower."""

_DISPOSITION = re.compile(
    rb"content-disposition: form-data; name=\"([^\"\\\x00-\x1f\x7f]*)\"(?:; filename=\"[^\"\\\x00-\x1f\x7f]*\")?",
    re.IGNORECASE,
)
_PART_TYPE = re.compile(rb"content-type: ([!-~]+(?:; ?[!-~]+)*)", re.IGNORECASE)


def read_multipart(body: bytes, boundary: bytes) -> Form:
    """The fields and files, in order. Raises `MappingError` (`request.ambiguous`) for all but the plain form.

    First the structure is checked to have one reading, then it is read, and both must have found the same.
    """
    names = _check_structure(body, boundary)
    decoder = MultipartDecoder(boundary, max_parts=MAX_PARTS + 1)
    decoder.receive_data(body)
    decoder.receive_data(None)
    fields: list[tuple[str, str | None]] = []
    content: list[bytes] = []
    part: Field | File | None = None
    try:
        while not isinstance(event := decoder.next_event(), (Epilogue, NeedData)):
            if isinstance(event, (Field, File)):
                part, content = event, []
            elif isinstance(event, Data):
                content.append(event.data)
                if not event.more_data and part is not None:
                    value = b"".join(content).decode("utf-8") if isinstance(part, Field) else None
                    fields.append((part.name, value))
            elif not isinstance(event, Preamble) or event.data:
                raise _ambiguous("the multipart body does not begin with its first part")
    except (ValueError, RuntimeError, LookupError):
        # Whatever the reader stumbles over, none of it was understood.
        raise _ambiguous("the multipart body cannot be read") from None
    if [name for name, _ in fields] != names:
        raise _ambiguous("the multipart body can be read in more than one way")
    return tuple(fields)


def _check_structure(body: bytes, boundary: bytes) -> list[str]:
    """The names of the parts, of a body that has exactly the usual form."""
    mark = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) - 1 != body.count(b"--" + boundary):
        raise _ambiguous("the multipart body holds its boundary where none belongs")
    if pieces[0] or pieces[-1] not in (b"--", b"--\r\n"):
        raise _ambiguous("the multipart body has something before its first or after its last part, or no end")
    if len(pieces) > MAX_PARTS + 2:
        raise _ambiguous(f"the form has more than {MAX_PARTS} fields")
    return [_name(piece) for piece in pieces[1:-1]]


def _name(piece: bytes) -> str:
    head, blank, _ = piece.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not blank or lines[0] or b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b""):
        raise _ambiguous("a part of the multipart body has no clear head")
    name = _DISPOSITION.fullmatch(lines[1]) if len(lines) > 1 else None
    kind = _PART_TYPE.fullmatch(lines[2]) if len(lines) == 3 else None  # noqa: PLR2004 (an empty line, and two headers)
    if name is None or len(lines) > 3 or (len(lines) == 3 and kind is None):  # noqa: PLR2004
        raise _ambiguous("a part of the multipart body has other headers than name, filename and Content-Type")
    if kind is not None and not is_utf8(kind.group(1)):
        raise _ambiguous("a part of the multipart body is not in UTF-8")
    try:
        return name.group(1).decode("utf-8")
    except UnicodeDecodeError:
        raise _ambiguous("a part of the multipart body has a name that is not UTF-8") from None


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
