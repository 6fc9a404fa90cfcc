"""What a client has to know to get a token: OAuth 2.0 Protected Resource Metadata (RFC 9728)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from afmiddleware.grammar.origins import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from afmiddleware.identity.origin import Origins
    from afmiddleware.model.http import HttpFacts

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
"""Where the metadata of a resource is: between its origin and its path."""


class ProtectedResource:
    """The service as a protected resource: all of it, or the part of it under a path.

    `servers` are the issuers of its tokens, `more` further members of the document. `path` is that of the resource
    which tokens are for, where their audience is one under an origin of the service.
    """

    def __init__(self, origins: Origins, servers: Sequence[str], more: dict[str, Any], path: str = "") -> None:
        self._origins = origins
        self._path = path
        self._servers = tuple(servers)
        self._more = more

    def url(self, facts: HttpFacts) -> str:
        """Where the metadata is of what tokens are for; empty when a request came to no public origin."""
        origin = self._origins.of(facts)
        return f"{origin}{WELL_KNOWN}{self._path.rstrip('/')}" if origin is not None else ""

    def part(self, path: str, bound: Iterable[str]) -> str | None:
        """The part of the service that a path asks for the metadata of, `None` for any other path.

        `bound` are the keys of the bindings (`POST /mcp`): a part is what an endpoint stands at or under. An endpoint
        of the application's own at that path comes first.
        """
        if not path.startswith(WELL_KNOWN) or f"GET {path}" in (bound := tuple(bound)):
            return None
        part = path[len(WELL_KNOWN) :]
        if part.rstrip("/") == self._path.rstrip("/"):
            return self._path
        if part in ("", "/"):
            return ""
        if not part.startswith("/"):
            return None
        templates = (key.partition(" ")[2] for key in bound)
        return part if any(one == part or one.startswith(f"{part}/") for one in templates) else None

    def document(self, facts: HttpFacts, part: str) -> dict[str, Any] | None:
        """The metadata of a part; `None` when a request came to no public origin."""
        origin = self._origins.of(facts)
        if origin is None:
            return None
        return {
            "resource": f"{origin}{part}",
            "authorization_servers": list(self._servers),
            "bearer_methods_supported": ["header"],
            **self._more,
        }


def audience_path(audience: str, origins: Sequence[str]) -> str:
    """The path of an audience that is a URL under one of the origins, as it is spelled; empty for any other."""
    try:
        parts = urlsplit(audience)
        under = origin_of(f"{parts.scheme}://{parts.netloc}") in {origin_of(one) for one in origins}
    except ValueError:
        return ""
    return parts.path if under and not (parts.query or parts.fragment) else ""
