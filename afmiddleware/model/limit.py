"""Limits, and what an action is charged under them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Unit(StrEnum):
    """What a limit counts."""

    RATE = "rate"
    SPEND = "spend"


class Window(msgspec.Struct, frozen=True, gc=False):
    """The time a limit looks at.

    `kind` is `rolling` (the last `seconds` seconds), `day` (a calendar day in `zone`, an IANA name) or `total` (ever).
    """

    kind: str
    seconds: int = 0
    zone: str = "UTC"


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """One line under `limits:` of fence.yaml.

    `cap` is a number of requests, or minor units of `currency`. `per` is `actor` or `global`. `capability` is a
    pattern, or empty for every capability. `cell` names the counter inside its key's row: it changes when the shape of
    the window or the currency does, and not when only the cap does.
    """

    name: str
    unit: Unit
    cap: int
    window: Window
    per: str = "actor"
    capability: str = ""
    currency: str = ""
    exponent: int = 0
    cell: str = ""
    line: int = 0


class Charge(msgspec.Struct, frozen=True, gc=False):
    """`amount` (requests or minor units) to be counted under `limit`, in the row called `key`."""

    limit: Limit
    key: str
    amount: int


class Balance(msgspec.Struct, frozen=True, gc=False):
    """How a limit stands after a commit. `resets_at` is in microseconds since the epoch, 0 for never."""

    limit: Limit
    used: int
    resets_at: int

    @property
    def remaining(self) -> int:
        """What is left under the cap, never below zero."""
        return max(self.limit.cap - self.used, 0)
