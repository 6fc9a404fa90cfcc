"""Names and values joined by `&` and percent-encoded, as in a query and in a form."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from afmiddleware.errors import MappingError
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

_BAD_TRIPLET = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def split(text: bytes, where: str) -> list[tuple[str, bytes]]:
    """The pairs, their names decoded. `;` separates nothing. Raises as `decode` does."""
    pairs: list[tuple[str, bytes]] = []
    for field in text.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            pairs.append((decode(name, where), value))
    return pairs


def decode(text: bytes, where: str) -> str:
    """One name or value; `+` is a space.

    Raises `MappingError` (`request.ambiguous`) about `where` ("the query") when it is not percent-encoded UTF-8.
    """
    if text.isascii() and _BAD_TRIPLET.search(text) is None:
        try:
            return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
        except UnicodeDecodeError:
            pass
    raise MappingError(REQUEST_AMBIGUOUS, f"{where} is not percent-encoded UTF-8")
