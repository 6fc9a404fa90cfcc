"""What was received, before anybody interprets it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Header = tuple[bytes, bytes]
"""A header line: lower-case name and value, undecoded."""


class HttpFacts:
    """A request's head, as the server handed it over. It does not change.

    `path` is decoded once, `raw_path` is the target's path as sent (`None` where the server does not keep it),
    `query` is undecoded and without the question mark. `peer` is the address of the connection, empty when unknown.
    `fields` has the first value of each header.
    """

    __slots__ = ("fields", "headers", "method", "path", "peer", "query", "raw_path", "scheme")

    def __init__(  # noqa: PLR0913 (a field each)
        self,
        *,
        method: str,
        path: str,
        raw_path: bytes | None = None,
        query: bytes = b"",
        headers: Sequence[Header] = (),
        scheme: str = "http",
        peer: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.scheme = scheme
        self.peer = peer
        self.fields: Mapping[bytes, bytes] = dict(headers[::-1])

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order. `name` is lower case."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: bytes) -> bytes | None:
        """The first value of a header, or `None`."""
        return self.fields.get(name)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint a request will reach, as the framework's own router resolved it.

    `key` is the binding key, `POST /v1/bookings/{id}`: the method that is judged (`GET` for `HEAD`), and the template
    from the outermost router down. `endpoint` is the object the router will call; `params` are its path parameters.
    `spelled` says whether a text in a place of the request (the first argument, a `Source`) is how the value that the
    handler will make of it is written; `None` where the framework converts nothing but the path.
    """

    key: str
    method: str
    template: str
    endpoint: object = None
    params: Mapping[str, object] = MappingProxyType({})
    spelled: Callable[[Any, str], bool] | None = None
