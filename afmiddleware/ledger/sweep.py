"""What a store need not keep: looked for in small steps while nothing else is to be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.limits.rows import empty, pack, prune, unpack_row
from afmiddleware.limits.slots import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY: Final = 24 * 3600 * 1_000_000
STALE: Final = DAY
"""How long after its end a counter is kept, in microseconds: no clock is set back by more."""

SETTLED_KEPT: Final = 30 * DAY
"""How long a reservation that is settled is kept, so that settling it again says so, in microseconds."""

PAGE: Final = 200
"""How many rows one step looks at."""


class Swept:
    """One step through the counters: the rows to write, those to drop, and where the next step begins."""

    def __init__(self, page: Iterable[tuple[object, bytes]], now: int) -> None:
        self.kept: list[tuple[object, bytes]] = []
        self.dropped: list[object] = []
        self.last: object = None
        for key, data in page:
            self.last = key
            row = unpack_row(data)
            changed = prune(row, now - STALE)
            if empty(row):
                self.dropped.append(key)
            elif changed:
                self.kept.append((key, pack(row)))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.kept and not self.dropped


def overdue(now: int) -> dict[str, int]:
    """Before which time rows are of no use: settled reservations by when they were made, all else by its end."""
    return {"hold": now - SETTLED_KEPT, "claim": now, "revocation": now, "lease": now - 10 * LEASE}
