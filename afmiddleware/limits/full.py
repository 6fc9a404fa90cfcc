"""Which rates were full a moment ago, so that a caller who is over one is refused before its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.limit import Charge
    from afmiddleware.model.verdict import Verdict

_AT_MOST: Final = 5_000_000
_REMEMBERED: Final = 4096


class FullRates:
    """What this process has seen refused. It only saves reading: whether a request is refused, the ledger decides.

    What is remembered is believed for five seconds at most, for a cap may be raised elsewhere. Reads and writes are
    single atomic steps, so threads may share it without a lock.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], int] = {}

    def note(self, rates: Sequence[Charge], verdict: Verdict, now: int) -> None:
        """Remember which of the rates refused. `now` is in microseconds since the epoch."""
        if verdict.code != "rate.exceeded":
            return
        for charge in rates:
            # Whoever is in a block that is full is refused; not everybody in the block of one who is.
            if charge.limit.name == verdict.limit and not charge.limit.wide:
                if len(self._until) >= _REMEMBERED:
                    self._until = {}
                self._until[charge.limit.cell, charge.key] = min(verdict.resets_at, now + _AT_MOST)

    def holds(self, rates: Sequence[Charge], now: int) -> bool:
        """Whether one of the rates is known to be full now."""
        until = self._until
        return bool(until) and any(until.get((charge.limit.cell, charge.key), 0) > now for charge in rates)
