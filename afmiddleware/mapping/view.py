"""What extractors may look at: one request, each part read strictly and at most once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.http import HttpFacts

_BAD_TRIPLET = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class RequestView:
    """A request whose body, if it was read, is parsed.

    `document` is the JSON body as `parse_json` gives it, `MISSING` when there is none or it was not read; `params` are
    the path parameters as the router converted them.
    """

    __slots__ = ("_query", "document", "facts", "params")

    def __init__(self, facts: HttpFacts, params: Mapping[str, object], document: Any = MISSING) -> None:
        self.facts = facts
        self.params = params
        self.document = document
        self._query: list[tuple[str, bytes]] | None = None

    def query(self, name: str) -> str | None:
        """The value of a query parameter, `None` when it is absent.

        Names are compared after decoding, `+` is a space, `;` separates nothing. Raises `MappingError`
        (`request.ambiguous`) when the parameter is there twice or the query cannot be decoded as UTF-8.
        """
        pairs = self._query
        if pairs is None:
            pairs = self._query = _split(self.facts.query)
        found = [value for key, value in pairs if key == name]
        if not found:
            return None
        if len(found) > 1:
            raise _ambiguous(f"the query parameter {name} is there more than once")
        return _decode(found[0])

    def header(self, name: str) -> str | None:
        """The value of a header, `None` when it is absent. `name` is lower case.

        Raises `MappingError` (`request.ambiguous`) when the header is there twice or is not ASCII.
        """
        found = self.facts.all(name.encode("ascii"))
        if not found:
            return None
        if len(found) > 1:
            raise _ambiguous(f"the header {name} is there more than once")
        if not found[0].isascii():
            raise _ambiguous(f"the header {name} is not ASCII")
        return found[0].decode("ascii")


def _split(query: bytes) -> list[tuple[str, bytes]]:
    pairs: list[tuple[str, bytes]] = []
    for field in query.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            pairs.append((_decode(name), value))
    return pairs


def _decode(text: bytes) -> str:
    if not text.isascii() or _BAD_TRIPLET.search(text) is not None:
        raise _ambiguous("the query is not percent-encoded UTF-8")
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise _ambiguous("the query is not percent-encoded UTF-8") from None


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
