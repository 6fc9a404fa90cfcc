"""Which limits an action falls under, worked out once per capability."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.errors import MappingError
from afmiddleware.grammar.capability import pattern_regex
from afmiddleware.limits.claimed import with_claim
from afmiddleware.limits.keys import row_key
from afmiddleware.limits.strangers import widened
from afmiddleware.model.limit import Charge, Limit, Overlay, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

_REMEMBERED: Final = 4096
_NAMED: Final = frozenset({"recipient", "category", "network", "address"})
"""What a caller may choose anew each time."""

SESSION_ENDS: Final = 32 * 86_400
"""After how many seconds a session that the fence has named is over for certain: minted ones live 30 days at most."""

_OF_ACTOR: Final = frozenset({"actor", "principal", "tenant", "session", "capability", "global"})
_NONE: Final[Mapping[str, Limit]] = MappingProxyType({})


class Limits:
    """The limits of a policy. Finding those of a capability is one look-up once it was asked before."""

    def __init__(self, limits: Sequence[Limit], overlays: Sequence[Overlay] = ()) -> None:
        limits = [replace(one, named=True) if _NAMED.intersection(one.per.split("+")) else one for one in limits]
        self._limits = {limit.name: limit for limit in limits}
        self._sessions = any(limit.window.kind == "session" for limit in limits)
        self._claims = any(limit.claim for limit in limits)
        self.named = any(limit.named for limit in limits)
        self._overlays = tuple(overlays)
        self._own: dict[str, Mapping[str, Limit]] = {}
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
        if self._overlays and (own := self._own_of(actor.id)):
            limits = tuple([own.get(limit.name, limit) for limit in limits])
        charges = tuple(
            [
                Charge(
                    limit, mine if limit.per == "actor" else row_key(limit.per, actor, capability, event, address), 1
                )
                for limit in limits
            ]
        )
        return widened(charges, actor, capability, event) if actor.anonymous else charges

    def spends(self, event: ActionEvent, address: Callable[[], str] = str) -> tuple[Charge, ...]:
        """What an action is charged under the spend limits in its currency.

        Raises `MappingError` (`currency.mismatch`) when limits match but none of them is in the event's currency:
        an amount that no limit can count must not pass.
        """
        money = event.amount
        actor, capability = event.actor, event.capability
        if money is None or event.refunds is not None:
            # What costs nothing, or gives back, is only weighed where an open breaker stops even that.
            free = tuple(
                Charge(limit, row_key(limit.per, actor, capability, event, address), 0)
                for limit in self._of(capability)[1]
                if limit.stops_free
            )
            return widened(free, actor, capability, event) if actor.anonymous else free
        mine, minor, currency = f"actor:{actor.id}", money.minor, money.currency
        matching = self._of(capability)[1]
        if self._overlays and (own := self._own_of(actor.id)):
            matching = tuple([own.get(limit.name, limit) for limit in matching])
        charged = [
            Charge(
                limit, mine if limit.per == "actor" else row_key(limit.per, actor, capability, event, address), minor
            )
            for limit in ([with_claim(one, actor) for one in matching] if self._claims else matching)
            if limit.currency == currency
        ]
        if actor.session and self._sessions and not actor.session.startswith("claim:"):
            # When a session ends that an issuer has named, nobody knows.
            charged = [
                replace(charge, limit=_ending(charge.limit)) if charge.limit.window.kind == "session" else charge
                for charge in charged
            ]
        if matching and not charged:
            code, detail = "currency.mismatch", f"No spend limit for this action is in {currency}."
            raise MappingError(code, detail)
        return widened(charged, actor, capability, event) if actor.anonymous else tuple(charged)

    def of_actor(self, actor_id: str) -> list[Limit]:
        """Every limit in the order of the file, under the cap that it has for an actor."""
        own = self._own_of(actor_id)
        return [own.get(name, limit) for name, limit in self._limits.items()]

    def _own_of(self, actor_id: str) -> Mapping[str, Limit]:
        """The limits that have a cap of its own for an actor, by name."""
        found = self._own.get(actor_id)
        if found is None:
            mine = [overlay for overlay in self._overlays if overlay.is_for(actor_id)]
            found = _NONE if not mine else {name: _capped(self._limits[name], mine) for name in {o.limit for o in mine}}
            if len(self._own) >= _REMEMBERED:
                self._own = {}
            self._own[actor_id] = found
        return found

    def slots(
        self,
        capability: str,
        actor: Actor,
        event: ActionEvent | None = None,
        address: Callable[[], str] = str,
    ) -> tuple[Charge, ...]:
        """The limits on how many run at once that an admitted action stands under."""
        limits = self._of(capability)[2]
        if self._overlays and (own := self._own_of(actor.id)):
            limits = tuple([own.get(limit.name, limit) for limit in limits])
        taken = tuple([Charge(limit, row_key(limit.per, actor, capability, event, address), 1) for limit in limits])
        return widened(taken, actor, capability, event) if actor.anonymous and taken else taken

    def rates_are_fixed(self, capability: str) -> bool:
        """Whether the actor alone says what `rates` are, without the event or where it comes from."""
        return self._fixed(capability, 0)

    def spends_are_fixed(self, capability: str) -> bool:
        """The same of `spends` but for their amounts."""
        return self._fixed(capability, 1)

    def slots_are_fixed(self, capability: str) -> bool:
        """The same of `slots`."""
        return self._fixed(capability, 2)

    def _fixed(self, capability: str, unit: int) -> bool:
        return all(_OF_ACTOR.issuperset(limit.per.split("+")) for limit in self._of(capability)[unit])

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


@lru_cache(maxsize=1024)
def _ending(limit: Limit) -> Limit:
    """The limit of a session that ends."""
    return replace(limit, window=replace(limit.window, seconds=SESSION_ENDS))


def _capped(limit: Limit, overlays: Sequence[Overlay]) -> Limit:
    """A limit with the cap that an actor's overlays leave it: the lowest, under the one that may widen if there is one.

    Of several that may widen, one for this very actor beats one for many, and then the first in the file the others.
    """
    mine = [overlay for overlay in overlays if overlay.limit == limit.name]
    wide = sorted((overlay for overlay in mine if overlay.override), key=lambda one: one.actor.endswith("*"))
    base = wide[0].cap if wide else limit.cap
    return replace(limit, cap=min([base, *(overlay.cap for overlay in mine if not overlay.override)]))
