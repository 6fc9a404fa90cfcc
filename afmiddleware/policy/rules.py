"""One rule of the policy file, compiled: its condition, its demands, and the verdicts it can give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from afmiddleware.errors import ConfigError, GrammarError, MoneyError
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.model import codes
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.conditions import Test, compile_when, reads_payload

if TYPE_CHECKING:
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor


class RuleSource(Protocol):
    """What a rule is compiled from: an entry under `rules.allow` or `rules.deny` of the configuration."""

    @property
    def id(self) -> str: ...
    @property
    def capability(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def line(self) -> int: ...


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled rule. `holds` is `None` for an unconditional one. A deny rule has no demands."""

    id: str
    pattern: str
    line: int = 0
    reason: str = ""
    holds: Test | None = None
    reads_payload: bool = False
    tier: Tier = Tier.ANONYMOUS
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    max_amount: Money | None = None


class Failure(NamedTuple):
    """Why an allow rule does not allow. The higher the `rank`, the nearer it was to allowing."""

    rank: int
    verdict: Verdict


def compile_rule(source: RuleSource, kind: str, assets: Mapping[str, int]) -> Rule:
    """Compile one entry. `kind` is `allow` or `deny`. Raises `ConfigError` naming the rule and its line."""
    try:
        when = _alternatives(getattr(source, "when", None))
        identity = getattr(source, "identity", None)
        cap = getattr(source, "max_amount", None)
        return Rule(
            id=source.id,
            pattern=check_pattern(source.capability),
            line=source.line,
            reason=source.reason or "",
            holds=compile_when(when, assets) if when else None,
            reads_payload=reads_payload(when),
            tier=identity if isinstance(identity, Tier) else Tier.parse(identity) if identity else Tier.ANONYMOUS,
            scopes=frozenset(getattr(source, "scopes", None) or ()),
            roles=frozenset(getattr(source, "roles", None) or ()),
            max_amount=cap if isinstance(cap, Money) or cap is None else Money.parse(cap, assets),
        )
    except (GrammarError, MoneyError, ValueError) as error:
        raise ConfigError([f"line {source.line}: {kind} rule {source.id!r}: {error}"]) from None


def denied(rule: Rule, capability: str) -> Verdict:
    """The verdict of a deny rule that holds."""
    return _verdict(rule, capability, codes.POLICY_DENIED, rule.reason or f"Rule {rule.id} denies {capability}.")


def allowed(rule: Rule, capability: str) -> Verdict:
    """The verdict of an allow rule that holds and whose demands are met."""
    return Verdict(
        authorized=True,
        code=codes.POLICY_ALLOWED,
        reason=f"Rule {rule.id} allows {capability}.",
        capability=capability,
        rule=rule.id,
        line=rule.line,
    )


def unjudged(rule: Rule, capability: str, code: str, reason: str) -> Verdict:
    """The verdict of a rule whose condition cannot be judged."""
    return _verdict(rule, capability, code, reason)


def identity_failure(rule: Rule, capability: str, actor: Actor) -> Failure | None:
    """Why an actor is not one whom the rule allows, `None` when it is."""
    if actor.tier < rule.tier:
        if actor.anonymous:
            return Failure(1, _required(rule, capability))
        reason = f"{capability} needs the identity tier {rule.tier.label}; the caller has {actor.tier.label}."
        return Failure(1, _verdict(rule, capability, codes.IDENTITY_TIER, reason))
    missing = rule.scopes - actor.scopes
    lacking = rule.roles - actor.roles
    if not missing and not lacking:
        return None
    if actor.anonymous:
        return Failure(1, _required(rule, capability))
    if missing:
        reason = f"{capability} needs the scope {', '.join(sorted(missing))}, which the caller has not."
    else:
        reason = f"{capability} needs the role {', '.join(sorted(lacking))}, which the caller has not."
    return Failure(2 if missing else 3, _verdict(rule, capability, codes.IDENTITY_SCOPE, reason))


def amount_failure(rule: Rule, event: ActionEvent) -> Failure | None:
    """Why the amount is more than the rule allows at once, `None` when it is not."""
    cap = rule.max_amount
    if cap is None:
        return None
    money, capability, known = event.amount, event.capability, not event.actor.anonymous
    if money is None:
        reason = f"{capability} is allowed up to an amount, and this action has none."
        return Failure(4, _verdict(rule, capability, codes.AMOUNT_UNRESOLVABLE, reason))
    if money.currency != cap.currency or money.exponent != cap.exponent:
        wanted = f", which is {cap.currency}" if known else ""
        reason = f"The amount is not in the currency of the rule for {capability}{wanted}."
        return Failure(4, _verdict(rule, capability, codes.CURRENCY_MISMATCH, reason))
    if money.minor > cap.minor:
        most = f" ({cap})" if known else ""
        reason = f"The amount is over the cap of one {capability}{most}."
        return Failure(5, _verdict(rule, capability, codes.AMOUNT_OVER_ACTION_CAP, reason))
    return None


def _required(rule: Rule, capability: str) -> Verdict:
    return _verdict(rule, capability, codes.IDENTITY_REQUIRED, f"{capability} needs a credential.")


def _verdict(rule: Rule, capability: str, code: str, reason: str) -> Verdict:
    return Verdict(
        authorized=False,
        code=code,
        reason=reason,
        capability=capability,
        rule=rule.id,
        line=rule.line,
    )


def _alternatives(when: Any) -> Sequence[Mapping[str, Mapping[str, Any]]]:
    if not when:
        return ()
    return (when,) if isinstance(when, Mapping) else tuple(when)
