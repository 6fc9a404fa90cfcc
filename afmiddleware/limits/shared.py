"""Rates and slots that were decided before the ledger's transaction, in a store that several hosts share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.errors import AFError
from afmiddleware.limits import charge
from afmiddleware.limits.cells import Cell
from afmiddleware.model.entry import Entry
from afmiddleware.model.limit import Charge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.limits.rows import Row

Caps = dict[str, tuple[int, bool]]
"""The caps that the operator has set for one actor, by the names of limits (see `limits.rows.More`)."""

NO_CAPS: Final[Caps] = {}


class Counted(Entry, frozen=True, kw_only=True, gc=False):
    """An entry whose rates are counted already, and whose slots are taken.

    `cells` are copies of the counters of its `rates` as they were left, `full` the place of the first that had no room,
    or -1; `crowded` is the first limit that had no free slot. `at` is the time of the shared store, in microseconds
    since the epoch, and `caps` those that were held to.
    """

    cells: list[Cell]
    full: int = -1
    crowded: Charge | None = None
    at: int = 0
    caps: Caps = NO_CAPS


class RecountError(AFError):
    """The operator has set other `caps` for the actor `owner` than those a `Counted` was held to: count it anew."""

    def __init__(self, owner: str, caps: Mapping[str, tuple[int, bool]]) -> None:
        self.owner = owner
        self.caps = dict(caps)
        super().__init__("the caps of this caller have changed")


def weigh_rates(entry: Entry, rows: dict[str, Row], now: int) -> tuple[list[Cell], int]:
    """The counters of an entry's rates, and the place of the first that has no room for it, or -1."""
    if type(entry) is Counted:
        return entry.cells, entry.full
    return charge.weigh(entry.rates, rows, now)


def count_rates(entry: Entry, weighed: tuple[Sequence[Cell], int], *, passes: bool, over: bool = False) -> None:
    """Count a judged request under its rates, as `charge.count_rates`, unless that is done."""
    if type(entry) is not Counted:
        cells, full = weighed
        charge.count_rates(entry.rates, cells, passes=passes, over=over, full=full)


def uncount_admitted(entry: Entry, cells: Sequence[Cell]) -> None:
    """Take back what was counted only because the request was to pass; from a shared store, whoever counted there."""
    if type(entry) is not Counted:
        charge.uncount_admitted(entry.rates, cells)
