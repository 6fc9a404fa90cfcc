"""The action event: what somebody wants to do, in the words of the policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from afmiddleware.grammar.capability import check_capability
from afmiddleware.model.actor import Actor
from afmiddleware.model.risk import check_risk
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.money import Money


class ActionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One action of one actor.

    `payload` holds the values conditions may read (`payload.<path>`); `route` is the endpoint's key where the action
    came over HTTP. Fields that are `None` are absent: a condition on them is false. `refunds` is the reference of an
    earlier action of the same actor, of which `amount`, or all without one, is given back: nothing is spent.
    """

    capability: str
    actor: Actor
    environment: str = ""
    amount: Money | None = None
    resource: str | None = None
    recipient: str | None = None
    category: str | None = None
    network: str | None = None
    risk: str | None = None
    refunds: str | None = None
    method: str = ""
    route: str = ""
    payload: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def create(  # noqa: PLR0913 (one keyword a field is the interface)
        cls,
        *,
        actor: str,
        resource: str,
        action: str,
        environment: str = "",
        payload: Mapping[str, Any] | None = None,
        tool: str | None = None,
        tier: Tier | str = Tier.TOKEN,
        amount: Money | None = None,
        recipient: str | None = None,
        category: str | None = None,
        network: str | None = None,
        risk: str | None = None,
        refunds: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> ActionEvent:
        """Make the event of a trusted caller inside this process: a worker, a tool, a test.

        The capability is `resource.action.environment`, the last part left out when there is no environment; `tool`
        stands in for `resource` in it. `actor` is a plain name, kept apart from callers over HTTP as `local:<name>`.
        `context` is added to the payload under `context`. Raises `GrammarError` when the parts do not make a
        well-formed capability, and `ValueError` for an unknown tier or risk or an empty actor.
        """
        if not actor:
            msg = "an action needs an actor: the name limits and receipts hang on"
            raise ValueError(msg)
        parts = (tool or resource, action, environment) if environment else (tool or resource, action)
        values = dict(payload or {})
        if context is not None:
            values["context"] = dict(context)
        return cls(
            capability=check_capability(".".join(parts)),
            actor=Actor(id=f"local:{actor}", tier=tier if isinstance(tier, Tier) else Tier.parse(tier), account=actor),
            environment=environment,
            amount=amount,
            resource=resource,
            recipient=recipient,
            category=category,
            network=network,
            risk=None if risk is None else check_risk(risk),
            refunds=refunds,
            payload=values,
        )
