"""The decision: deny, then allow, then default deny. Pure and total: every event gets a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from afmiddleware.errors import ConfigError
from afmiddleware.model import codes
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.conditions import UnjudgedError
from afmiddleware.policy.patterns import PatternIndex
from afmiddleware.policy.rules import (
    Failure,
    Rule,
    RuleSource,
    allowed,
    amount_failure,
    compile_rule,
    denied,
    identity_failure,
    unjudged,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

_REMEMBERED: Final = 4096
"""Capabilities whose rules are kept at hand. More than a policy names only where a path or a method makes them."""


class RulesSource(Protocol):
    """`rules:` of the configuration."""

    @property
    def allow(self) -> Sequence[RuleSource]: ...
    @property
    def deny(self) -> Sequence[RuleSource]: ...


class PolicySource(Protocol):
    """What a policy is compiled from."""

    @property
    def rules(self) -> RulesSource: ...
    @property
    def assets(self) -> Mapping[str, int]: ...


class _Plan(msgspec.Struct, frozen=True):
    """All that can be said about one capability before an event is seen."""

    denies: tuple[tuple[Rule, Verdict], ...]
    allows: tuple[tuple[Rule, Verdict], ...]
    denied: Verdict | None
    unmatched: Verdict
    reads_payload: bool


class Policy:
    """The rules of one policy file.

    The rules of a capability are found once and kept in a plain dictionary that starts afresh when it is full. Its
    reads and writes are single atomic steps and a plan depends on nothing but its capability, so threads may share a
    policy without a lock; the worst a race does is to find the same rules twice.
    """

    def __init__(self, allow: Iterable[Rule], deny: Iterable[Rule]) -> None:
        self._allow = PatternIndex((rule.pattern, rule) for rule in allow)
        self._deny = PatternIndex((rule.pattern, rule) for rule in deny)
        self._plans: dict[str, _Plan] = {}

    def decide(self, event: ActionEvent) -> Verdict:
        """Judge one event.

        Deny beats allow; without a deny, one allow rule whose condition holds and whose demands are met is enough, and
        the first in the file is named. A condition that cannot be judged refuses under deny and does not allow under
        allow. Of several allow rules that fail, the one that came nearest gives the reason.
        """
        plan = self._plans.get(event.capability) or self._plan(event.capability)
        if plan.denied is not None:
            return plan.denied
        doubt: Verdict | None = None
        for rule, verdict in plan.denies:
            try:
                if rule.holds is None or rule.holds(event):
                    return verdict
            except UnjudgedError as error:
                doubt = doubt or unjudged(rule, event.capability, error.code, error.reason)
        if doubt is not None:
            return doubt
        # Rules that ask for an approval belong here: below deny, on top of an allow rule that is satisfied.
        actor = event.actor
        for rule, verdict in plan.allows:
            if actor.tier >= rule.tier and rule.scopes <= actor.scopes and rule.roles <= actor.roles:
                try:
                    if (rule.holds is None or rule.holds(event)) and amount_failure(rule, event) is None:
                        return verdict
                except UnjudgedError:
                    continue
        return _refusal(plan, event)

    def may_refuse_early(self, capability: str, actor: Actor) -> Verdict | None:
        """The refusal that is certain before the body is read, `None` when there is none.

        It is given when an unconditional deny covers the capability, when no allow rule does, or when the actor meets
        the identity demands of none of them.
        """
        plan = self._plans.get(capability) or self._plan(capability)
        return plan.denied or _identity_refusal(plan, capability, actor)

    def reads_payload(self, capability: str) -> bool:
        """Whether a condition that can apply to the capability reads `payload.<path>`."""
        return (self._plans.get(capability) or self._plan(capability)).reads_payload

    def _plan(self, capability: str) -> _Plan:
        denies = tuple((rule, denied(rule, capability)) for rule in self._deny.find(capability))
        allows = tuple((rule, allowed(rule, capability)) for rule in self._allow.find(capability))
        plan = _Plan(
            denies=denies,
            allows=allows,
            denied=next((verdict for rule, verdict in denies if rule.holds is None), None),
            unmatched=Verdict(
                authorized=False,
                code=codes.POLICY_UNMATCHED,
                reason=f"No rule allows {capability}.",
                capability=capability,
            ),
            reads_payload=any(rule.reads_payload for rule, _ in (*denies, *allows)),
        )
        if len(self._plans) >= _REMEMBERED:
            self._plans = {}
        self._plans[capability] = plan
        return plan


def compile_policy(config: PolicySource) -> Policy:
    """Compile the rules of a configuration. Raises `ConfigError` with every problem at once."""
    compiled: dict[str, list[Rule]] = {"deny": [], "allow": []}
    problems: list[str] = []
    for kind, sources in (("deny", config.rules.deny), ("allow", config.rules.allow)):
        for source in sources:
            try:
                compiled[kind].append(compile_rule(source, kind, config.assets))
            except ConfigError as error:
                problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return Policy(compiled["allow"], compiled["deny"])


def _identity_refusal(plan: _Plan, capability: str, actor: Actor) -> Verdict | None:
    nearest: Failure | None = None
    for rule, _ in plan.allows:
        failure = identity_failure(rule, capability, actor)
        if failure is None:
            return None
        if nearest is None or failure.rank > nearest.rank:
            nearest = failure
    return plan.unmatched if nearest is None else nearest.verdict


def _refusal(plan: _Plan, event: ActionEvent) -> Verdict:
    """The most useful reason why no allow rule allows."""
    early = _identity_refusal(plan, event.capability, event.actor)
    if early is not None:
        return early
    nearest = Failure(0, plan.unmatched)
    for rule, _ in plan.allows:
        failure = _failure(rule, event)
        if failure is not None and failure.rank > nearest.rank:
            nearest = failure
    return nearest.verdict


def _failure(rule: Rule, event: ActionEvent) -> Failure | None:
    """Why a rule does not allow an event, `None` when its condition simply does not hold."""
    by_identity = identity_failure(rule, event.capability, event.actor)
    try:
        if rule.holds is not None and not rule.holds(event):
            return None
    except UnjudgedError as error:
        return by_identity or Failure(4, unjudged(rule, event.capability, error.code, error.reason))
    return by_identity or amount_failure(rule, event)
