"""What is the same for every request of one caller at one endpoint, worked out when it is first asked for.

A lane holds nothing that a request, the time or the ledger may change: it is thrown away with its plan, and may be
thrown away at any time. Its reads and writes are single atomic steps, so threads share it without a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.model.limit import Charge
from afmiddleware.model.receipt import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.limit import Limit
    from afmiddleware.model.receipt import Form
    from afmiddleware.plan import Plan

_REMEMBERED: Final = 4096
_FORMS: Final = 1024


class Lane:
    """One actor at one endpoint, for one capability.

    `owner` is whose receipts join; `early` is the refusal that is certain before anything is read.
    """

    __slots__ = ("_limits", "_rates", "_slots", "_spends", "actor", "capability", "early", "owner")

    def __init__(self, plan: Plan, capability: str, actor: Actor) -> None:
        limits = plan.limits
        self.capability = capability
        self.actor = actor
        self.owner = owner_of(actor)
        # What may pass although it is refused has to be read all the same, or it could not be charged.
        self.early = None if plan.observe else plan.policy.may_refuse_early(capability, actor)
        self._limits = limits
        self._rates = limits.rates(capability, actor) if limits.rates_are_fixed(capability) else None
        self._slots = limits.slots(capability, actor) if limits.slots_are_fixed(capability) else None
        self._spends: dict[str, tuple[tuple[Limit, str, tuple[str, ...]], ...]] = {}

    def rates(self, event: ActionEvent | None, address: Callable[[], str]) -> tuple[Charge, ...]:
        """`Limits.rates` for a request in this lane."""
        found = self._rates
        return found if found is not None else self._limits.rates(self.capability, self.actor, event, address)

    def slots(self, event: ActionEvent | None, address: Callable[[], str]) -> tuple[Charge, ...]:
        """`Limits.slots` for a request in this lane."""
        found = self._slots
        return found if found is not None else self._limits.slots(self.capability, self.actor, event, address)

    def spends(self, event: ActionEvent, address: Callable[[], str]) -> tuple[Charge, ...]:
        """`Limits.spends` for a request in this lane. Raises `MappingError` as that does."""
        money = event.amount
        if money is None or event.refunds is not None:
            return self._limits.spends(event, address)
        minor, found = money.minor, self._spends.get(money.currency)
        if found is not None:
            return tuple([Charge(limit, key, minor, wider) for limit, key, wider in found])
        charges = self._limits.spends(event, address)
        if self._limits.spends_are_fixed(self.capability):
            self._spends[money.currency] = tuple([(one.limit, one.key, one.wider) for one in charges])
        return charges


class Lanes:
    """The lanes of one plan, as far as they were asked for lately, and the forms of receipts, by what they say."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, Actor], Lane] = {}
        self.forms: dict[tuple[object, ...], Form] = {}

    def of(self, plan: Plan, route: str, capability: str, actor: Actor) -> Lane:
        """The lane of an actor at an endpoint."""
        key = (route, capability, actor)
        lane = self._found.get(key)
        if lane is None:
            lane = Lane(plan, capability, actor)
            if len(self._found) >= _REMEMBERED:
                self._found = {}
            self._found[key] = lane
        return lane

    def remember(self, said: tuple[object, ...], form: Form) -> Form:
        """Keep a form for all who need it."""
        if len(self.forms) >= _FORMS:
            self.forms = {}
        self.forms[said] = form
        return form


def owner_of(actor: Actor) -> str:
    """Whose receipts an actor's join: its own, or those that nobody has proven to be theirs."""
    return ANONYMOUS if actor.anonymous else actor.id
