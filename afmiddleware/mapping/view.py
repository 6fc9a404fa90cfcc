"""What extractors may look at: one request, each part read strictly and at most once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.mapping.charset import is_utf8
from afmiddleware.mapping.percent import decode, split
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, REQUEST_MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afmiddleware.grammar.paths import Source
    from afmiddleware.mapping.multipart import Form
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts

_QUOTED_COOKIE = re.compile(r'"(?:[^"\\]|\\.)*"')
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*", re.ASCII)


class RequestView:
    """A request whose body, if it was read, is parsed.

    `document` is the JSON body as `parse_json` gives it (of a JSON-RPC call, its params or arguments), `MISSING` when
    there is none or it was not read; `form` are the fields of a form body, `None` when it is not one; `params` are the
    path parameters as the router converted them; `actor` is who acts, for extractors that are functions; `spelled` is
    the target's.
    """

    __slots__ = ("_query", "actor", "document", "facts", "form", "params", "spelled")

    def __init__(  # noqa: PLR0913 (each is a part of the request)
        self,
        facts: HttpFacts,
        params: Mapping[str, object],
        document: Any = MISSING,
        *,
        form: Form | None = None,
        actor: Actor | None = None,
        spelled: Callable[[Source, str], bool] | None = None,
    ) -> None:
        self.facts = facts
        self.params = params
        self.document = document
        self.form = form
        self.actor = actor
        self.spelled = spelled
        self._query: list[tuple[str, bytes]] | None = None

    def query(self, name: str) -> str | None:
        """The value of a query parameter, `None` when it is absent.

        Names are compared after decoding, `+` is a space, `;` separates nothing. Raises `MappingError`
        (`request.ambiguous`) when the parameter is there twice, or in the form too, or the query cannot be decoded;
        `request.media_type` when Content-Type names a charset other than UTF-8.
        """
        found = self._in_query(name)
        if found and self.form is not None and any(key == name for key, _ in self.form):
            raise _ambiguous(f"the query and the form both hold {name}")
        return decode(found[0], "the query") if found else None

    def field(self, name: str) -> str | None:
        """The value of a form field, `None` when it is absent.

        Raises `MappingError` (`request.ambiguous`) when the field is there twice, or in the query too.
        """
        found = [value for key, value in self.form or () if key == name]
        if len(found) > 1:
            raise _ambiguous(f"the form field {name} is there more than once")
        if self._in_query(name):
            raise _ambiguous(f"{name} belongs into the form and is in the query")
        return found[0] if found else None

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

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, `None` when it is absent.

        Raises `MappingError` (`request.ambiguous`) when there are two such cookies or two Cookie headers, when the
        value has quotes, a backslash or anything else that readers of cookies treat differently (RFC 6265 section 4.1),
        or when any cookie has a quote that does not end before its ';'.
        """
        found = []
        for pair in (self.header("cookie") or "").split(";"):
            key, equals, value = pair.partition("=")
            if value.lstrip(" \t").startswith('"') and _QUOTED_COOKIE.fullmatch(value.strip(" \t")) is None:
                raise _ambiguous("a cookie has a ';' or an end that is quoted for some readers only")
            if key.strip() == name:
                found.append(value.strip(" \t"))
                if not equals or key.removeprefix(" ") != name:
                    raise _ambiguous(f"the cookie {name} is not a name and a value")
        if not found:
            return None
        if len(found) > 1:
            raise _ambiguous(f"the cookie {name} is there more than once")
        if _COOKIE_VALUE.fullmatch(found[0]) is None:
            raise _ambiguous(f"the cookie {name} holds a character that is read in more than one way")
        return found[0]

    def _in_query(self, name: str) -> list[bytes]:
        pairs = self._query
        if pairs is None:
            if self.facts.query and not is_utf8(self.facts.fields.get(b"content-type", b"")):
                # Django decodes the query with the charset of the body.
                raise MappingError(REQUEST_MEDIA_TYPE, "send a request with a query without a charset, or in UTF-8")
            pairs = self._query = split(self.facts.query, "the query")
        found = [value for key, value in pairs if key == name]
        if len(found) > 1:
            raise _ambiguous(f"the query parameter {name} is there more than once")
        return found


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
