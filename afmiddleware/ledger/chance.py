"""Random bytes and what is made of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE: Final = 64


class Supply:
    """Random bytes as `os.urandom` gives them, asked of the system for many callers at a time.

    Asking lets go of the interpreter's lock, which beside a busy thread costs a request milliseconds. A piece is given
    to one caller only, in one process: what was asked for before a fork is not used after it.
    """

    def __init__(self, draw: Callable[[int], bytes] = os.urandom) -> None:
        self._draw = draw
        self._pid = 0
        self._left: dict[int, list[bytes]] = {}

    def __call__(self, count: int) -> bytes:
        """So many random bytes."""
        pid = os.getpid()
        if pid != self._pid:
            # In this order: another thread that already finds the process its own must not find what its parent had.
            self._left = {}
            self._pid = pid
        left = self._left.setdefault(count, [])
        try:
            return left.pop()
        except IndexError:
            drawn = self._draw(count * _AT_ONCE)
            first, *more = [drawn[start : start + count] for start in range(0, len(drawn), count)]
            left.extend(more)
            return first


class Ids:
    """Makes the ids of decisions: the time of each and 72 random bits, as 32 hexadecimal digits."""

    def __init__(self) -> None:
        self._draw = Supply()

    def __call__(self, now: int) -> str:
        """The id of a decision made `now`, in microseconds since the epoch."""
        return f"{now:014x}{self._draw(9).hex()}"
