"""What was found a moment ago, found again without a lock: every request of a busy caller comes by here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers values for `seconds`, and twice `most` of them at most.

    There are two generations: when the young one is full it becomes the old one, and that is forgotten. Reads and
    writes are single atomic steps, so threads may share it; of two that fill it at once one may be forgotten early.
    """

    __slots__ = ("_most", "_old", "_seconds", "_timer", "_young")

    def __init__(self, most: int, seconds: float, timer: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._timer = timer
        self._young: dict[K, tuple[float, V]] = {}
        self._old: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        """The value of a key, `None` when there is none or its time is over."""
        found = self._young.get(key) or self._old.get(key)
        if found is None or self._timer() >= found[0]:
            return None
        return found[1]

    def put(self, key: K, value: V) -> None:
        """Remember a value from now on."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = (self._timer() + self._seconds, value)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}

    def items(self) -> list[tuple[K, V]]:
        """All that is kept, over or not."""
        return [(key, value) for part in (self._old, self._young) for key, (_, value) in part.items()]
