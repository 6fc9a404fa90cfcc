"""Which limits an action falls under, worked out once per capability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.errors import MappingError
from afmiddleware.grammar.capability import pattern_regex
from afmiddleware.limits.keys import row_key
from afmiddleware.model.limit import Charge, Limit, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

_REMEMBERED: Final = 4096


class Limits:
    """The limits of a policy. Finding those of a capability is one look-up once it was asked before."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._all = [(pattern_regex(limit.capability) if limit.capability else None, limit) for limit in limits]
        self._found: dict[str, tuple[tuple[Limit, ...], tuple[Limit, ...], tuple[Limit, ...]]] = {}
        self.guarded = any(limit.on_exceed for limit in limits)

    def rates(
        self,
        capability: str,
        actor: Actor,
        event: ActionEvent | None = None,
        address: Callable[[], str] = str,
    ) -> tuple[Charge, ...]:
        """What one judged request is charged under the rate limits.

        `event` is `None` when the request could not be read; `address` tells the prefix its caller came from.
        """
        mine = f"actor:{actor.id}"
        limits = self._of(capability)[0]
        return tuple(
            [
                Charge(
                    limit, mine if limit.per == "actor" else row_key(limit.per, actor, capability, event, address), 1
                )
                for limit in limits
            ]
        )

    def spends(self, event: ActionEvent, address: Callable[[], str] = str) -> tuple[Charge, ...]:
        """What an action is charged under the spend limits in its currency.

        Raises `MappingError` (`currency.mismatch`) when limits match but none of them is in the event's currency:
        an amount that no limit can count must not pass.
        """
        money = event.amount
        actor, capability = event.actor, event.capability
        if money is None:
            # What costs nothing is only weighed where an open breaker stops even that.
            return tuple(
                Charge(limit, row_key(limit.per, actor, capability, event, address), 0)
                for limit in self._of(capability)[1]
                if limit.stops_free
            )
        mine, minor, currency = f"actor:{actor.id}", money.minor, money.currency
        matching = self._of(capability)[1]
        charged = [
            Charge(
                limit, mine if limit.per == "actor" else row_key(limit.per, actor, capability, event, address), minor
            )
            for limit in matching
            if limit.currency == currency
        ]
        if matching and not charged:
            code, detail = "currency.mismatch", f"No spend limit for this action is in {currency}."
            raise MappingError(code, detail)
        return tuple(charged)

    def slots(
        self,
        capability: str,
        actor: Actor,
        event: ActionEvent | None = None,
        address: Callable[[], str] = str,
    ) -> tuple[Charge, ...]:
        """The limits on how many run at once that an admitted action stands under."""
        return tuple(
            [
                Charge(limit, row_key(limit.per, actor, capability, event, address), 1)
                for limit in self._of(capability)[2]
            ]
        )

    def _of(self, capability: str) -> tuple[tuple[Limit, ...], tuple[Limit, ...], tuple[Limit, ...]]:
        found = self._found.get(capability)
        if found is None:
            matching = [limit for regex, limit in self._all if regex is None or regex.fullmatch(capability)]
            rates = tuple(limit for limit in matching if limit.unit is Unit.RATE)
            spends = tuple(limit for limit in matching if limit.unit is Unit.SPEND)
            slots = tuple(limit for limit in matching if limit.unit is Unit.CONCURRENT)
            found = (rates, spends, slots)
            if len(self._found) < _REMEMBERED:
                self._found[capability] = found
        return found
