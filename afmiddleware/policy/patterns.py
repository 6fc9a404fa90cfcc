"""Which entries of a long list cover a capability, without asking each of them; and how two patterns stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from afmiddleware.grammar.capability import pattern_regex

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class _Node(Generic[T]):
    """What may follow after some segments of a pattern."""

    __slots__ = ("ends", "literal", "partial", "rest", "whole")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[T]] = {}
        self.whole: _Node[T] | None = None
        """After a lone `*`."""
        self.partial: dict[str, tuple[re.Pattern[str], _Node[T]]] = {}
        """After a segment with a `*` in it."""
        self.ends: list[tuple[int, T]] = []
        self.rest: list[tuple[int, T]] = []
        """The patterns that end with `**` here."""


class PatternIndex(Generic[T]):
    """Entries under capability patterns, as a tree of their segments. Immutable once made.

    A look-up follows the segments of the capability, so it costs the same whatever else the tree holds; only segments
    with a part for a `*` are tried one by one, among those that begin alike.
    """

    __slots__ = ("_root",)

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """Take checked patterns with what they stand for, in the order in which `find` gives them back."""
        self._root: _Node[T] = _Node()
        for place, (pattern, entry) in enumerate(entries):
            segments = pattern.split(".")
            rest = segments[-1] == "**"
            node = self._root
            for segment in segments[:-1] if rest else segments:
                node = _child(node, segment)
            (node.rest if rest else node.ends).append((place, entry))

    def find(self, capability: str) -> tuple[T, ...]:
        """Every entry whose pattern covers a capability, in the order given."""
        found = list(self._root.rest)
        nodes = [self._root]
        for segment in capability.split("."):
            below: list[_Node[T]] = []
            for node in nodes:
                child = node.literal.get(segment)
                if child is not None:
                    below.append(child)
                if node.whole is not None:
                    below.append(node.whole)
                below += [after for regex, after in node.partial.values() if regex.fullmatch(segment)]
            nodes = below
            for node in nodes:
                found += node.rest
        for node in nodes:
            found += node.ends
        found.sort(key=_place)
        return tuple(entry for _, entry in found)


def _child(node: _Node[T], segment: str) -> _Node[T]:
    if segment == "*":
        if node.whole is None:
            node.whole = _Node()
        return node.whole
    if "*" not in segment:
        return node.literal.setdefault(segment, _Node())
    known = node.partial.get(segment)
    if known is None:
        regex = re.compile(re.escape(segment).replace(r"\*", ".*"), re.ASCII)
        known = node.partial[segment] = (regex, _Node())
    return known[1]


def _place(entry: tuple[int, T]) -> int:
    return entry[0]


def of_calls(capability: str) -> str:
    """The pattern of all that a route's capability may become, where it holds a place for the call's method or tool."""
    return capability.replace("{method}", "*").replace("{tool}", "*")


def covers(wide: str, narrow: str) -> bool:
    """Whether a pattern covers all that another does. False where that cannot be told from the segments."""
    return _covers(wide.split("."), narrow.split("."))


def _covers(wide: list[str], narrow: list[str]) -> bool:
    if wide == ["**"]:
        return True
    if not (wide and narrow):
        return wide == narrow
    first = wide[0] in ("*", narrow[0]) or _literal_in(wide[0], narrow[0])
    return narrow[0] != "**" and first and _covers(wide[1:], narrow[1:])


def meets(one: str, other: str) -> bool:
    """Whether some capability may be covered by both patterns. True where that cannot be told from the segments."""
    return _meets(one.split("."), other.split("."))


def _meets(left: list[str], right: list[str]) -> bool:
    if ["**"] in (left, right):
        return True
    if not (left and right):
        return left == right
    a, b = left[0], right[0]
    literal = a if "*" not in a else b if "*" not in b else None
    first = literal is None or (_literal_in(a, literal) and _literal_in(b, literal))
    return first and _meets(left[1:], right[1:])


def _literal_in(pattern: str, segment: str) -> bool:
    return "*" not in segment and pattern_regex(pattern).fullmatch(segment) is not None
