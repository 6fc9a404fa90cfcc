"""Limits, and what an action is charged under them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KEYS: Final = (
    "actor",
    "principal",
    "tenant",
    "session",
    "address",
    "recipient",
    "category",
    "network",
    "capability",
    "global",
)
"""What a limit may count by."""

_ENDLESS: Final = frozenset({"session", "total"})
_PERSONAL: Final = frozenset({"actor", "principal", "session"})


class Unit(StrEnum):
    """What a limit counts."""

    RATE = "rate"
    SPEND = "spend"
    CONCURRENT = "concurrent"


class Window(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The time a limit looks at.

    `kind` is `rolling` (the last `seconds` seconds), `pacing` (evenly spaced over `seconds`), a calendar window in
    `zone`, an IANA name (`minute`, `hour`, `day`, `week` beginning on the day `week_start`, 0 for Monday, `month`,
    `year`), `session` (as long as that lasts) or `total` (ever).
    """

    kind: str
    seconds: int = 0
    zone: str = "UTC"
    week_start: int = 0


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """One line under `limits:` of fence.yaml.

    `cap` is a number of requests, or minor units of `currency`. `per` is one of `KEYS`, or several joined by `+`.
    `capability` is a pattern, or empty for every capability. `cell` names the counter inside its key's row: it changes
    when the shape of the window or the currency does, and not when only the cap does. `quota` is how many a paced rate
    spreads over its window, where `cap` is how many may come at once. `admitted` means that a rate counts only what was
    admitted. A spend with `on_exceed` does not only refuse: `alert` flags and lets pass, `trip` opens a circuit
    breaker, which lets one probe through after `half_open` seconds (0: only a reset closes it) and, with `stops_free`,
    not even passes what costs nothing. With a `claim` each caller has the cap that this claim of its token says, in
    minor units where `minor` is set, and never more than `cap`. `named` says that it counts by what a caller may choose
    anew each time, and `wide` that it is a block of addresses that is counted.
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
    quota: int = 0
    admitted: bool = False
    on_exceed: str = ""
    half_open: int = 0
    stops_free: bool = False
    claim: str = ""
    minor: bool = False
    named: bool = False
    wide: bool = False

    @property
    def resets(self) -> bool:
        """Whether what is counted ever comes back by time alone."""
        return bool(self.cap) and self.window.kind not in _ENDLESS

    @property
    def own(self) -> bool:
        """Whether what is counted is one caller's alone, so that the caller may be told how much it is."""
        return not _PERSONAL.isdisjoint(self.per.split("+"))

    @property
    def told(self) -> bool:
        """Whether a caller is told what is left: of its own, and of a rate of its own address."""
        return self.own or (self.unit is Unit.RATE and "address" in self.per.split("+"))


class Charge(msgspec.Struct, frozen=True, gc=False):
    """`amount` (requests or minor units) to be counted under `limit`, in the row called `key`.

    `wider` are the rows that may stand in for it when there is no more room for single addresses, the narrowest first.
    """

    limit: Limit
    key: str
    amount: int
    wider: tuple[str, ...] = ()


class Balance(msgspec.Struct, frozen=True, gc=False):
    """How a limit stands after a commit. `resets_at` is in microseconds since the epoch, 0 for never."""

    limit: Limit
    used: int
    resets_at: int

    @property
    def remaining(self) -> int:
        """What is left under the cap, never below zero."""
        return max(self.limit.cap - self.used, 0)


class Balances(msgspec.Struct, frozen=True, gc=False):
    """How several limits stand after a commit: what a `Balance` holds of each, in their order."""

    limits: tuple[Limit, ...] = ()
    used: tuple[int, ...] = ()
    resets: tuple[int, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Balance]) -> Self:
        """Those of a list."""
        several = [*found]
        return cls(
            tuple([one.limit for one in several]),
            tuple([one.used for one in several]),
            tuple([one.resets_at for one in several]),
        )

    def given_back(self, amount: int, currency: str) -> Self:
        """The same when `amount`, in minor units of `currency`, was given back under every limit that counts it."""
        used = [
            had - amount if limit.currency == currency else had
            for limit, had in zip(self.limits, self.used, strict=True)
        ]
        return replace(self, used=tuple(used))

    def __iter__(self) -> Iterator[Balance]:
        return map(Balance, self.limits, self.used, self.resets)


NO_BALANCES: Final = Balances()


class Overlay(msgspec.Struct, frozen=True, gc=False):
    """A cap of its own, in the units of the limit, for the actor with an id, or for all whose ids begin so (`key:*`).

    It narrows; only with `override` may it also widen.
    """

    actor: str
    limit: str
    cap: int
    override: bool = False

    def is_for(self, actor_id: str) -> bool:
        """Whether it is for this actor."""
        if self.actor.endswith("*"):
            return actor_id.startswith(self.actor[:-1])
        return actor_id == self.actor
