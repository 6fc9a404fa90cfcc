"""Sets of actors by their ids: one id, or all that begin alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ActorSet:
    """Actors named by ids such as `key:acct_42`, and by beginnings such as `key:*`. Immutable."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, patterns: Iterable[str]) -> None:
        exact: set[str] = set()
        prefixes: list[str] = []
        for pattern in patterns:
            if pattern.endswith("*"):
                prefixes.append(pattern[:-1])
            else:
                exact.add(pattern)
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)

    def __contains__(self, actor_id: str) -> bool:
        return actor_id in self._exact or actor_id.startswith(self._prefixes)
