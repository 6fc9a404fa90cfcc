"""The decision: deny, then require_approval, then allow, then default deny. Pure and total: every event gets a verdict.

The floor of a decision is one look-up: what the rules say of a capability is worked out when it is first seen.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from afmiddleware.errors import ConfigError, GrammarError
from afmiddleware.grammar.capability import check_capability
from afmiddleware.model import codes
from afmiddleware.model.risk import RISKS
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.actors import ActorSet
from afmiddleware.policy.conditions import Names, UnjudgedError
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
    only_observed,
    sha256,
    unapproved,
    unjudged,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

KINDS: Final = ("deny", "require_approval", "allow")
"""The sections of `rules:`, the one that wins first."""

_REMEMBERED: Final = 4096
"""Capabilities whose rules are kept at hand, or twice the rules if those are more: a request can make new names."""


class RulesSource(Protocol):
    """`rules:` of the configuration, which may also have `require_approval`, `risk` and `risk_lines`."""

    @property
    def allow(self) -> Sequence[RuleSource]: ...
    @property
    def deny(self) -> Sequence[RuleSource]: ...


class PolicySource(Protocol):
    """What a policy is compiled from. It may also have `lists`, `schedules`, `frozen` actors and a `draw`."""

    @property
    def rules(self) -> RulesSource: ...
    @property
    def assets(self) -> Mapping[str, int]: ...


Ruled = tuple[Rule, Verdict]
"""A rule with the verdict it gives on one capability."""


class Matching(msgspec.Struct, frozen=True):
    """All that can be said about one capability before an event is seen.

    `guards` and `offers` stand for `denies` and `allows`, place by place: the first rule of the file that asks the same
    of an action. Those are asked, and capabilities of which the same is asked share one tuple: what many rules have in
    common stays in the processor's caches, so that ten thousand rules cost what ten do.
    """

    denied: Verdict | None
    guards: tuple[Rule, ...]
    offers: tuple[Rule, ...]
    approvals: tuple[Ruled, ...]
    allows: tuple[Ruled, ...]
    denies: tuple[Ruled, ...]
    unmatched: Verdict
    reads_payload: bool


class Policy:
    """The rules of one policy file.

    The rules of a capability are found once and kept in a plain dictionary that starts afresh when it is full. Its
    reads and writes are single atomic steps and what is kept depends on nothing but its capability, so threads may
    share a policy without a lock; the worst a race does is to find the same rules twice.

    `risk` maps a level of risk to what becomes of an action of that level, whatever its capability.
    """

    def __init__(  # noqa: PLR0913 (a part of the file each)
        self,
        allow: Iterable[Rule],
        deny: Iterable[Rule],
        require_approval: Iterable[Rule] = (),
        *,
        risk: Mapping[str, Rule] = MappingProxyType({}),
        frozen: ActorSet | None = None,
        names: Names | None = None,
    ) -> None:
        self.rules: dict[str, tuple[Rule, ...]] = {
            "deny": tuple(deny),
            "require_approval": tuple(require_approval),
            "allow": tuple(allow),
        }
        self.risk = dict(risk)
        self.frozen = frozen
        self.names = names or Names()
        firsts: dict[Hashable, Rule] = {}
        self._indexes = {
            kind: PatternIndex((rule.pattern, (rule, firsts.setdefault(_asked(rule), rule))) for rule in rules)
            for kind, rules in self.rules.items()
        }
        self._shared: dict[tuple[int, ...], tuple[Rule, ...]] = {}
        self._plans: dict[str, Matching] = {}
        self._room = max(_REMEMBERED, 2 * sum(map(len, self.rules.values())))

    def decide(self, event: ActionEvent, now: int = 0) -> Verdict:
        """Judge one event at `now`, in microseconds since the epoch.

        Deny beats everything. Without a deny, one allow rule whose condition holds and whose demands are met is needed,
        and the first in the file is named; a rule that asks for an approval then stands above it. A condition that
        cannot be judged refuses under deny and require_approval, and does not allow under allow. Of several allow rules
        that fail, the one that came nearest gives the reason. `flags` tell of rules that only observe, and of risk.
        """
        capability, actor = event.capability, event.actor
        plan = self._plans.get(capability) or self._plan(capability)
        if self.frozen is not None and actor.id in self.frozen:
            return frozen(capability)
        if plan.denied is not None:
            return plan.denied
        flags: tuple[str, ...] = ()
        stricter = None
        if event.risk is not None:
            stricter = self.risk.get(event.risk)
            refusal = _refused_by_risk(stricter, event.risk, capability)
            if refusal is not None:
                return refusal
        if plan.guards:
            refusal, flags = _guarded(plan, event, now)
            if refusal is not None:
                return _flagged(refusal, flags)
        for place, asks in enumerate(plan.offers):
            if actor.tier >= asks.tier and asks.scopes <= actor.scopes and asks.roles <= actor.roles:
                try:
                    if (asks.holds is None or asks.holds(event, now)) and (
                        not asks.priced or amount_failure(asks, event) is None
                    ):
                        verdict = plan.allows[place][1]
                        if stricter is None and not plan.approvals and not flags:
                            return verdict
                        return _approved(verdict, plan.approvals, stricter, event, now, flags)
                except UnjudgedError:
                    pass  # It does not allow.
        return _flagged(_refusal(plan, event, now), flags)

    def may_refuse_early(self, capability: str, actor: Actor) -> Verdict | None:
        """The refusal that is certain before the body is read, `None` when there is none.

        It is given when the operator has frozen the actor, when an unconditional deny covers the capability, when no
        allow rule does, or when the actor meets the identity demands of none of them.
        """
        if self.frozen is not None and actor.id in self.frozen:
            return frozen(capability)
        plan = self._plans.get(capability) or self._plan(capability)
        return plan.denied or _identity_refusal(plan, capability, actor)

    def reads_payload(self, capability: str) -> bool:
        """Whether a condition that can apply to the capability reads `payload.<path>`."""
        return (self._plans.get(capability) or self._plan(capability)).reads_payload

    def matching(self, capability: str) -> Matching:
        """The rules that cover a capability."""
        return self._plans.get(capability) or self._plan(capability)

    def _plan(self, capability: str) -> Matching:
        malformed = _malformed(capability)
        found = {kind: () if malformed is not None else self._indexes[kind].find(capability) for kind in KINDS}
        guards, offers = (self._share(tuple(first for _, first in found[kind])) for kind in ("deny", "allow"))
        denies, approvals, allows = (
            tuple((rule, give(rule, capability)) for rule, _ in found[kind])
            for kind, give in zip(KINDS, (denied, unapproved, allowed), strict=True)
        )
        plan = Matching(
            denied=malformed
            or next((verdict for rule, verdict in denies if rule.holds is None and not rule.observe), None),
            guards=guards,
            offers=offers,
            approvals=approvals,
            allows=allows,
            denies=denies,
            unmatched=Verdict(
                authorized=False,
                code=codes.POLICY_UNMATCHED,
                reason=f"No rule allows {capability}.",
                capability=capability,
            ),
            reads_payload=any(rule.reads_payload for rule, _ in (*denies, *approvals, *allows)),
        )
        if len(self._plans) >= self._room:
            self._plans, self._shared = {}, {}
        self._plans[capability] = plan
        return plan

    def _share(self, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        """The one tuple of these rules, which this policy keeps alive."""
        return self._shared.setdefault(tuple(map(id, rules)), rules)


def compile_policy(config: PolicySource) -> Policy:
    """Compile the rules of a configuration. Raises `ConfigError` with every problem at once."""
    names = Names(config.assets, getattr(config, "lists", {}), getattr(config, "schedules", {}))
    compiled: dict[str, list[Rule]] = {kind: [] for kind in KINDS}
    problems: list[str] = []
    for kind in KINDS:
        for source in getattr(config.rules, kind, ()):
            try:
                compiled[kind].append(compile_rule(source, kind, names, getattr(config, "draw", sha256)))
            except ConfigError as error:
                problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    lines = getattr(config.rules, "risk_lines", {})
    risk = {level: _risk_rule(level, what, lines.get(level, 0)) for level, what in _risks(config.rules).items()}
    return Policy(
        compiled["allow"],
        compiled["deny"],
        compiled["require_approval"],
        risk=risk,
        frozen=getattr(config, "frozen", None),
        names=names,
    )


def _risks(rules: RulesSource) -> Mapping[str, str]:
    return getattr(rules, "risk", None) or {}


def _risk_rule(level: str, what: str, line: int) -> Rule:
    """A level of risk as a rule of every capability; `warn` stands for one that only flags."""
    approval = "default" if what == "require_approval" else ""
    return Rule(id=f"risk.{level}", kind=what, pattern="**", line=line, approval=approval, priced=False)


def _asked(rule: Rule) -> Hashable:
    """What a rule asks of an action: two rules of which this is the same hold for the same actions."""
    demands = (rule.tier, rule.scopes, rule.roles, rule.currencies, rule.max_amount)
    return (rule.kind, rule.applies_to, msgspec.json.encode(rule.when), demands)


def _malformed(capability: str) -> Verdict | None:
    """The refusal of what is no well-formed capability, and so would be covered by no rule that denies it."""
    try:
        check_capability(capability)
    except GrammarError:
        return _unreadable(capability, "name that is no capability")
    return None


def _refused_by_risk(rule: Rule | None, level: str, capability: str) -> Verdict | None:
    if level not in RISKS:
        return _unreadable(capability, "risk that is no level")
    return denied(rule, capability) if rule is not None and rule.kind == "deny" else None


def _unreadable(capability: str, what: str) -> Verdict:
    reason = f"The action has a {what}, so it cannot be judged."
    return Verdict(authorized=False, code=codes.AMOUNT_UNRESOLVABLE, reason=reason, capability=capability)


def frozen(capability: str) -> Verdict:
    """The verdict on everything that an actor with `enabled: false` does."""
    reason = "The operator has frozen this caller."
    return Verdict(authorized=False, code=codes.ACTOR_FROZEN, reason=reason, capability=capability)


def _guarded(plan: Matching, event: ActionEvent, now: int) -> tuple[Verdict | None, tuple[str, ...]]:
    """The refusal of the first rule that holds, else of the first that cannot be judged; and what only observes."""
    doubt: Verdict | None = None
    flags: list[str] = []
    for place, asked in enumerate(plan.guards):
        holds = asked.holds
        try:
            if holds is not None and not holds(event, now):
                continue
            (rule, refusal), certain = plan.denies[place], True
        except UnjudgedError as error:
            rule = plan.denies[place][0]
            refusal, certain = unjudged(rule, event.capability, error.code, error.reason), False
        if rule.observe and only_observed(rule, event.actor):
            flags.append(f"observed:{rule.id}")
        elif certain:
            return refusal, tuple(flags)
        else:
            doubt = doubt or refusal
    return doubt, tuple(flags)


def _approved(  # noqa: PLR0913 (all that a verdict is made of)
    verdict: Verdict,
    approvals: tuple[Ruled, ...],
    stricter: Rule | None,
    event: ActionEvent,
    now: int,
    flags: tuple[str, ...],
) -> Verdict:
    """An allowed action once more, under what asks for an approval and what only flags.

    A rule that cannot be judged refuses even beside one that asks: to lift the latter would not answer the former.
    """
    asked: Verdict | None = None
    needed: list[str] = []
    told = list(flags)
    if stricter is not None:
        told.append(f"risk:{event.risk}")
        if stricter.kind == "require_approval":
            asked, needed = unapproved(stricter, event.capability), [stricter.approval]
    for rule, refusal in approvals:
        observed = rule.observe and only_observed(rule, event.actor)
        try:
            if rule.holds is not None and not rule.holds(event, now):
                continue
        except UnjudgedError as error:
            if not observed:
                return _flagged(unjudged(rule, event.capability, error.code, error.reason), tuple(told))
        if observed:
            told.append(f"observed:{rule.id}")
        else:
            asked = asked or refusal
            needed.append(rule.approval)
    if asked is not None:
        asked = msgspec.structs.replace(asked, approvals=tuple(dict.fromkeys(needed)))
    return _flagged(asked or verdict, tuple(told))


def _flagged(verdict: Verdict, flags: tuple[str, ...]) -> Verdict:
    return msgspec.structs.replace(verdict, flags=flags) if flags else verdict


def _identity_refusal(plan: Matching, capability: str, actor: Actor) -> Verdict | None:
    nearest: Failure | None = None
    for rule, _ in plan.allows:
        failure = identity_failure(rule, capability, actor)
        if failure is None:
            return None
        if nearest is None or failure.rank > nearest.rank:
            nearest = failure
    return plan.unmatched if nearest is None else nearest.verdict


def _refusal(plan: Matching, event: ActionEvent, now: int) -> Verdict:
    """The most useful reason why no allow rule allows."""
    early = _identity_refusal(plan, event.capability, event.actor)
    if early is not None:
        return early
    nearest = Failure(0, plan.unmatched)
    for rule, _ in plan.allows:
        failure = refusal_of(rule, event, now)
        if failure is not None and failure.rank > nearest.rank:
            nearest = failure
    return nearest.verdict


def refusal_of(rule: Rule, event: ActionEvent, now: int) -> Failure | None:
    """Why a rule does not allow an event, `None` when its condition simply does not hold."""
    by_identity = identity_failure(rule, event.capability, event.actor)
    try:
        if rule.holds is not None and not rule.holds(event, now):
            return None
    except UnjudgedError as error:
        return by_identity or Failure(4, unjudged(rule, event.capability, error.code, error.reason))
    return by_identity or amount_failure(rule, event)
