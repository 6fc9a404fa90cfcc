"""Which entries of a long list cover a capability, without asking each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from afmiddleware.grammar.capability import pattern_regex

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

T = TypeVar("T")


class PatternIndex(Generic[T]):
    """Entries under capability patterns. Immutable once made.

    Patterns without a wildcard are found by one look-up, those with a literal first segment among their like.
    """

    __slots__ = ("_exact", "_open", "_rooted")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """Take checked patterns with what they stand for, in the order in which `find` gives them back."""
        self._exact: dict[str, list[tuple[int, T]]] = {}
        self._rooted: dict[str, list[tuple[int, re.Pattern[str], T]]] = {}
        self._open: list[tuple[int, re.Pattern[str], T]] = []
        for place, (pattern, entry) in enumerate(entries):
            first = pattern.partition(".")[0]
            if "*" not in pattern:
                self._exact.setdefault(pattern, []).append((place, entry))
            elif "*" not in first:
                self._rooted.setdefault(first, []).append((place, pattern_regex(pattern), entry))
            else:
                self._open.append((place, pattern_regex(pattern), entry))

    def find(self, capability: str) -> tuple[T, ...]:
        """Every entry whose pattern covers a capability, in the order given."""
        found = list(self._exact.get(capability, ()))
        for group in (self._rooted.get(capability.partition(".")[0], ()), self._open):
            found.extend((place, entry) for place, regex, entry in group if regex.fullmatch(capability))
        found.sort(key=_place)
        return tuple(entry for _, entry in found)


def _place(entry: tuple[int, T]) -> int:
    return entry[0]
