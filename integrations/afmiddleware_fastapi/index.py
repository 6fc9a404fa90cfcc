"""An index over a router's routes that may only leave out routes that cannot match.

It is a tree of path segments, read off the routes' own declared paths. Whatever it does not fully understand (a custom
convertor, a path and a pattern that disagree, an unknown kind of route) it never leaves out, so the answer is always
that of the routes' own `matches`, in the router's own order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.convertors import FloatConvertor, IntegerConvertor, StringConvertor, UUIDConvertor
from starlette.routing import PARAM_REGEX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ONE_SEGMENT = frozenset({StringConvertor, IntegerConvertor, FloatConvertor, UUIDConvertor})
"""Convertors whose values never hold a slash."""

_INSIDE = "\0"
_ACROSS = "\1"


class Shape:
    """What a path template demands of a path, segment by segment.

    `segments` holds a literal text, or `None` for a segment with a parameter. With `open_ended` anything may follow.
    """

    __slots__ = ("open_ended", "segments")

    def __init__(self, segments: Sequence[str | None], *, open_ended: bool) -> None:
        self.segments = tuple(segments)
        self.open_ended = open_ended

    @property
    def literal(self) -> bool:
        """Whether it is the shape of one path alone."""
        return not self.open_ended and None not in self.segments


ANYTHING = Shape((), open_ended=True)


def shape_of(path: str, pattern: str, convertors: Mapping[str, Any]) -> Shape:
    """Read the shape of a declared path. `pattern` is the regular expression the route really matches with.

    Where the two do not say the same, the answer is `ANYTHING`.
    """
    if not path.startswith("/") or _INSIDE in path or _ACROSS in path:
        return ANYTHING
    expected, marked, end = ["^"], "", 0
    for found in PARAM_REGEX.finditer(path):
        name = found.group(1)
        convertor = convertors.get(name)
        if convertor is None:
            return ANYTHING
        literal = path[end : found.start()]
        expected += (re.escape(literal), f"(?P<{name}>{convertor.regex})")
        marked += literal + (_INSIDE if type(convertor) in ONE_SEGMENT else _ACROSS)
        end = found.end()
    expected += (re.escape(path[end:]), "$")
    if "".join(expected) != pattern:
        return ANYTHING
    segments: list[str | None] = []
    for segment in (marked + path[end:])[1:].split("/"):
        if _ACROSS in segment:
            return Shape(segments, open_ended=True)
        segments.append(None if _INSIDE in segment else segment)
    return Shape(segments, open_ended=False)


class _Branch:
    __slots__ = ("ends", "literal", "parameter", "rest")

    def __init__(self) -> None:
        self.literal: dict[str, _Branch] = {}
        self.parameter: _Branch | None = None
        self.ends: list[int] = []
        self.rest: list[int] = []


class Index:
    """Finds the places, in order, of the routes that may match a path."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._root = _Branch()
        self._all: Sequence[int] = range(len(shapes))
        self._depth = max((len(shape.segments) for shape in shapes), default=0)
        for place, shape in enumerate(shapes):
            branch = self._root
            for segment in shape.segments:
                if segment is not None:
                    branch = branch.literal.setdefault(segment, _Branch())
                else:
                    if branch.parameter is None:
                        branch.parameter = _Branch()
                    branch = branch.parameter
            (branch.rest if shape.open_ended else branch.ends).append(place)

    def places(self, path: str) -> Sequence[int]:
        """The places of the routes that may match `path` (the router's route path), ascending."""
        # `$` also matches before a final newline, and a path without its first slash is nobody's shape: ask everybody.
        if path[:1] != "/" or path[-1] == "\n":
            return self._all
        found = list(self._root.rest)
        branches = [self._root]
        # One more piece than the deepest shape: it stands for all that is too long to end anywhere.
        for segment in path[1:].split("/", self._depth):
            following = []
            for branch in branches:
                literal = branch.literal.get(segment)
                if literal is not None:
                    following.append(literal)
                    found += literal.rest
                parameter = branch.parameter
                if parameter is not None:
                    following.append(parameter)
                    found += parameter.rest
            branches = following
            if not branches:
                break
        for branch in branches:
            found += branch.ends
        if len(found) > 1:
            found.sort()
        return found


def route_path(scope: Mapping[str, Any]) -> str:
    """The path a router matches: `path` without `root_path`, as Starlette cuts it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    rest = path[len(root) :]
    return rest if not rest or rest[0] == "/" else path
