"""The route table of fence.yaml, for applications whose own router cannot be asked. It knows no server and no driver.

It is a second router, so its promise is weaker than that of a framework's adapter: it says which entry of the policy a
canonical path means, and cannot see what the application does with it. Therefore

- whatever it does not list is unmapped, and denied: there is no answer like "no such endpoint";
- a CORS preflight is a request like any other: put the CORS layer outside of the fence, or list its `OPTIONS`;
- nothing is redirected, merged or folded: a path that needs it (`/x` for `/x/`, `//x`) is not listed;
- numbers have one spelling (`7`, never `007`), and paths with control characters or empty segments match nothing;
- a path that could be split between two parameters in several ways is not listed;
- of the endpoints of an application that overlap (`/users/me` and `/users/{id}`) it means the one with more fixed text,
  in whatever order the application asks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Map, PathConverter, Rule, UnicodeConverter, UUIDConverter

from afmiddleware.errors import ConfigError
from afmiddleware.model.http import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.fence import Fence
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.plan import Plan

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUERY", "WEBSOCKET"})
UNLISTED: Final = "(no route)"
"""Stands for the template of a request that the table does not list; no key of a policy ends so."""

_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(?::([A-Za-z_]\w*))?\}", re.ASCII)
_UNSAFE = re.compile(r"//|[\x00-\x1f\x7f-\x9f\\]")


class _Whole(BaseConverter):
    """A whole number in its one spelling."""

    regex = "(?:0|[1-9][0-9]{0,17})"
    weight = 50

    def to_python(self, value: str) -> int:
        return int(value)


class _Decimal(BaseConverter):
    """A number with a point, kept as the text it is: a double may be another number."""

    regex = r"(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}"
    weight = 50


class _Slug(BaseConverter):
    regex = "[A-Za-z0-9_-]+"


_CONVERTERS: Final = {
    "default": UnicodeConverter,
    "int": _Whole,
    "float": _Decimal,
    "slug": _Slug,
    "uuid": UUIDConverter,
    "path": PathConverter,
}


class RouteTable:
    """Which binding a method and a path mean.

    `bindings` are a plan's, by the normal form of their keys, `source` the policy's file. Raises `ConfigError` with
    every entry that a table cannot hold: an expression, a host, a converter it does not know, two entries that the
    same path would match.
    """

    def __init__(self, bindings: Mapping[str, Binding], source: str = "fence.yaml") -> None:
        self.bindings = bindings
        problems: list[str] = []
        rules: list[Rule] = []
        shapes: dict[str, Binding] = {}
        # `HEAD` is the `GET` of its endpoint, unless the policy has an entry for it, which is then found first.
        for key in sorted(bindings, key=lambda key: not key.startswith("HEAD ")):
            method, _, template = key.partition(" ")
            binding = bindings[key]
            fault = _fault(template)
            first = shapes.setdefault(f"{method} {_PARAMETER.sub(_shape, template)}", binding)
            if fault is None and first is not binding:
                fault = f"means the same paths as {first.key}; keep one"
            if fault is not None:
                problems.append(f"{binding.where or f'{source}:{binding.line}'}: route {binding.key} {fault}")
                continue
            socket = method == "WEBSOCKET"
            rules.append(
                Rule(
                    _PARAMETER.sub(_to_werkzeug, template),
                    endpoint=(key, method, template, _separators(template)),
                    methods=None if socket else [method],
                    websocket=socket,
                )
            )
        if problems:
            raise ConfigError(problems)
        made = Map(rules, converters=_CONVERTERS, merge_slashes=False, strict_slashes=True, redirect_defaults=False)
        self._match = made.bind("table").match

    def find(self, method: str, path: str) -> Target:
        """What a request means. `path` is decoded, and below the place where the application is mounted.

        What the table does not list has a key that no policy binds.
        """
        if method in METHODS and path.startswith("/") and _UNSAFE.search(path) is None:
            socket = method == "WEBSOCKET"
            try:
                entry, params = self._match(path, "GET" if socket else method, websocket=socket)
            except HTTPException:
                # Not found, another method, a redirect: none of them is this entry's path.
                pass
            else:
                key, judged, template, separators = entry
                if not any(separator in str(params[name]) for name, separator in separators):
                    return Target(key=key, method=judged, template=template, params=params)
        return Target(key=f"{method if method in METHODS else '*'} {UNLISTED}", method=method, template=UNLISTED)

    def find_mounted(self, method: str, path: str, root: str) -> Target:
        """What a request means to an application that is mounted at `root`; `path` is the whole one.

        Applications differ in whether they take the mount's prefix off, so a path that is listed in both readings has
        none.
        """
        root = root.rstrip("/")
        whole = self.find(method, path)
        if not root or not path.startswith(f"{root}/"):
            return whole
        below = self.find(method, path[len(root) :])
        if not self.lists(whole):
            return below
        return self.find(method, "") if self.lists(below) else whole

    def lists(self, target: Target) -> bool:
        """Whether a target that `find` returned is an entry of the policy."""
        return target.template is not UNLISTED


class TablesOf:
    """The tables of a fence's policies: of the one in force, and of the one that takes over.

    Raises `ConfigError` for a policy that a table cannot hold; one that is loaded later is refused for it.
    """

    def __init__(self, fence: Fence) -> None:
        self._source = fence.config.source
        self._table = self._next = RouteTable(fence.plan.bindings, self._source)
        fence.fits.append(self._fits)

    def of(self, plan: Plan) -> RouteTable:
        """The table of a policy. Raises `ConfigError`."""
        for table in (self._table, self._next):
            if table.bindings is plan.bindings:
                return table
        # Bindings declared in code were adopted since.
        self._table = RouteTable(plan.bindings, self._source)
        return self._table

    def _fits(self, plan: Plan, source: str) -> None:
        self._next, self._table = RouteTable(plan.bindings, source), self._next


def _fault(template: str) -> str | None:
    if template.startswith("//"):
        return "names a host, which a table of routes does not look at; leave it out"
    literal = _PARAMETER.sub("", template)
    if not template.startswith("/") or any(character in literal for character in "<>{}"):
        return "is not a plain template; write one such as /v1/bookings/{id}"
    if _UNSAFE.search(template) is not None:
        return "holds a character that no canonical path has"
    if template.count(":path}") > 1 or "}{" in template:
        return "has parameters that a path could be split between in several ways; put a fixed text between them"
    unknown = [kind for _, kind in _PARAMETER.findall(template) if kind and kind not in _CONVERTERS]
    if unknown:
        return f"has a converter that a table of routes does not know, {unknown[0]}; leave it out"
    return None


def _separators(template: str) -> tuple[tuple[str, str], ...]:
    """Which text may not be in which value, where parameters share a segment: the path could be split elsewhere."""
    found: list[tuple[str, str]] = []
    for segment in template.split("/"):
        names = [match.group(1) for match in _PARAMETER.finditer(segment)]
        between = _PARAMETER.sub("\0", segment).split("\0")[1:-1]
        found += [(name, separator) for name in names for separator in between]
    return tuple(found)


def _shape(found: re.Match[str]) -> str:
    return f"{{:{found.group(2) or ''}}}"


def _to_werkzeug(found: re.Match[str]) -> str:
    return f"<{found.group(2) or 'default'}:{found.group(1)}>"
