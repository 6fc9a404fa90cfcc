"""A clock that jumps ahead ends every window before its time. For a while nothing is counted by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD: Final = 5_000_000
"""How much faster than this host's steady clock another may run between two looks, in microseconds."""

BELIEVED: Final = 30_000_000
"""How long a clock that has jumped must run evenly before it is believed, in microseconds."""

# Where there is one, a clock that goes on while the host sleeps.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Steady:
    """Holds a clock of day against the host's steady one. `name` says whose clock it is."""

    def __init__(self, name: str, steady: Callable[[], int] | None = None) -> None:
        self._name = name
        self._steady = steady or _since_boot
        self._offset: int | None = None
        self._jumped: tuple[int, int] | None = None

    def latest(self) -> int:
        """The latest time that is believed now, in microseconds since the epoch; 0 before the first look."""
        return 0 if self._offset is None else self._steady() + self._offset + AHEAD

    def check(self, now: int) -> None:
        """Raises `LedgerUnavailableError` while `now` is not believed. A clock that is set back only counts longer."""
        at = self._steady()
        offset = now - at
        if self._offset is None or offset <= self._offset + AHEAD:
            # Going back, or drifting, moves what is believed only backwards at once; forwards it has to be slow.
            self._offset, self._jumped = offset, None
            return
        if self._jumped is None or abs(offset - self._jumped[0]) > AHEAD:
            self._jumped = (offset, at)
        left = self._jumped[1] + BELIEVED - at
        if left <= 0:
            self._offset, self._jumped = offset, None
            return
        ahead = (offset - self._offset) // 1_000_000
        raise LedgerUnavailableError(
            f"the clock of {self._name} has jumped ahead by {ahead} s; it is believed once it runs evenly for "
            f"{BELIEVED // 1_000_000} s",
            retry_after=max(left // 1_000_000, 1),
        )


def _since_boot() -> int:
    return time.clock_gettime_ns(_CLOCK) // 1000
