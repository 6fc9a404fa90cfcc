"""One rule of the policy file, compiled: its condition, its demands, and the verdicts it can give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from afmiddleware.errors import ConfigError, GrammarError, MoneyError
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.model import codes
from afmiddleware.model.money import Money, exponent_of
from afmiddleware.model.tier import Tier
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.agents import ALL, PROVEN_AGENTS, for_agents
from afmiddleware.policy.conditions import Names, Test, compile_when, reads_payload

if TYPE_CHECKING:
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

When = Sequence[Mapping[str, Mapping[str, Any]]]
"""A condition as it stands in the file: alternatives, each a map of field to operators."""

Draw = Callable[[bytes], bytes]
"""A digest that the actors of a share are chosen by: keyed in a fence, so that nobody can take a name of theirs."""

HUNDREDTHS: Final = 10_000
"""The whole of a share, in hundredths of a percent."""


class RuleSource(Protocol):
    """What a rule is compiled from: an entry under `rules.deny`, `rules.require_approval` or `rules.allow`."""

    @property
    def id(self) -> str: ...
    @property
    def capability(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def line(self) -> int: ...


def sha256(message: bytes) -> bytes:
    """How actors are drawn where no fence runs, as in the commands that try out a policy."""
    return hashlib.sha256(message).digest()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled rule. `holds` is `None` for an unconditional one. Only an allow rule has demands.

    `observe` is for how many of 10 000 actors, chosen by `draw`, a rule that refuses only says that it would.
    `approval` names who is to approve, where the rule asks for that. `when` is the condition as it stands in the file;
    `applies_to` says for whom the rule is (`policy.agents`), which is part of `holds`.
    """

    id: str
    kind: str
    pattern: str
    line: int = 0
    reason: str | None = None
    holds: Test | None = None
    when: When = ()
    reads_payload: bool = False
    applies_to: str = ALL
    observe: int = 0
    draw: Draw = sha256
    approval: str = ""
    tier: Tier = Tier.ANONYMOUS
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset()
    max_amount: Money | None = None
    priced: bool
    """Whether it demands anything of the amount."""


class Failure(NamedTuple):
    """Why an allow rule does not allow. The higher the `rank`, the nearer it was to allowing."""

    rank: int
    verdict: Verdict


def compile_rule(source: RuleSource, kind: str, names: Names, draw: Draw = sha256) -> Rule:
    """Compile one entry. `kind` is `deny`, `require_approval` or `allow`.

    Raises `ConfigError` naming the rule and its line.
    """
    try:
        when = _alternatives(getattr(source, "when", None))
        scope = getattr(source, "applies_to", ALL)
        identity = getattr(source, "identity", None)
        cap = getattr(source, "max_amount", None)
        currencies = frozenset(getattr(source, "currency", None) or ())
        for currency in sorted(currencies):
            exponent_of(currency, names.assets)
        return Rule(
            id=source.id,
            kind=kind,
            pattern=check_pattern(source.capability),
            line=source.line,
            reason=source.reason,
            holds=for_agents(kind, scope, compile_when(when, names) if when else None),
            applies_to=scope,
            when=when,
            reads_payload=reads_payload(when),
            observe=getattr(source, "observe", 0),
            draw=draw,
            approval=getattr(source, "approval", "default"),
            tier=identity if isinstance(identity, Tier) else Tier.parse(identity) if identity else Tier.ANONYMOUS,
            scopes=frozenset(getattr(source, "scopes", None) or ()),
            roles=frozenset(getattr(source, "roles", None) or ()),
            currencies=currencies,
            max_amount=cap if isinstance(cap, Money) or cap is None else Money.parse(cap, names.assets),
            priced=cap is not None or bool(currencies),
        )
    except (GrammarError, MoneyError, ValueError) as error:
        raise ConfigError([f"line {source.line}: {kind} rule {source.id!r}: {error}"]) from None


def only_observed(rule: Rule, actor: Actor) -> bool:
    """Whether a rule only says what it would do to an actor.

    The actors it falls on are chosen by a hash of rule and actor, in a fence under its key, so that one caller always
    meets the same, and cannot ask again until it is lucky.
    """
    return rule.observe >= HUNDREDTHS or (not actor.anonymous and falls_on(rule.observe, rule.id, actor.id, rule.draw))


def falls_on(share: int, name: str, actor_id: str, draw: Draw = sha256) -> bool:
    """Whether an actor is of the `share`, in hundredths of a percent, that is drawn for `name`."""
    if share >= HUNDREDTHS:
        return True
    drawn = draw(f"observe\0{name}\0{actor_id}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(drawn[:8], "big") % HUNDREDTHS < share


def denied(rule: Rule, capability: str) -> Verdict:
    """The verdict of a deny rule that holds."""
    return _verdict(rule, capability, codes.POLICY_DENIED, rule.reason or f"Rule {rule.id} denies {capability}.")


def unapproved(rule: Rule, capability: str) -> Verdict:
    """The verdict of a rule that asks for an approval."""
    reason = rule.reason or f"{capability} needs an approval, by rule {rule.id}."
    return _verdict(rule, capability, codes.APPROVAL_REQUIRED, reason)


def allowed(rule: Rule, capability: str) -> Verdict:
    """The verdict of an allow rule that holds and whose demands are met."""
    return Verdict(
        authorized=True,
        code=codes.POLICY_ALLOWED,
        reason=rule.reason or f"Rule {rule.id} allows {capability}.",
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
        return Failure(1, _with_scopes(_verdict(rule, capability, codes.IDENTITY_TIER, reason), rule))
    if rule.applies_to == PROVEN_AGENTS and not actor.agent:
        if actor.anonymous:
            return Failure(1, _required(rule, capability))
        reason = f"{capability} is for agents that have proven to be one, and the caller has not."
        return Failure(1, _with_scopes(_verdict(rule, capability, codes.IDENTITY_TIER, reason), rule))
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
    refused = _verdict(rule, capability, codes.IDENTITY_SCOPE, reason)
    return Failure(2, _with_scopes(refused, rule)) if missing else Failure(3, refused)


def amount_failure(rule: Rule, event: ActionEvent) -> Failure | None:
    """Why the amount is not one that the rule allows, `None` when it is."""
    if not rule.priced:
        return None
    cap, money, capability, known = rule.max_amount, event.amount, event.capability, not event.actor.anonymous
    if money is None:
        some = "up to an amount" if cap is not None else "with an amount"
        reason = f"{capability} is allowed {some}, and this action has none."
        return Failure(4, _verdict(rule, capability, codes.AMOUNT_UNRESOLVABLE, reason))
    wanted = rule.currencies if cap is None else {cap.currency}
    foreign = cap is not None and (money.currency != cap.currency or money.exponent != cap.exponent)
    if foreign or (rule.currencies and money.currency not in rule.currencies):
        named = f", which is {' or '.join(sorted(wanted))}" if known else ""
        reason = f"The amount is not in the currency of the rule for {capability}{named}."
        return Failure(4, _verdict(rule, capability, codes.CURRENCY_MISMATCH, reason))
    if cap is not None and money.minor > cap.minor:
        most = f" ({cap})" if known else ""
        reason = f"The amount is over the cap of one {capability}{most}."
        return Failure(5, _verdict(rule, capability, codes.AMOUNT_OVER_ACTION_CAP, reason))
    return None


def _required(rule: Rule, capability: str) -> Verdict:
    return _with_scopes(_verdict(rule, capability, codes.IDENTITY_REQUIRED, f"{capability} needs a credential."), rule)


def _with_scopes(verdict: Verdict, rule: Rule) -> Verdict:
    """The verdict with what a token has to hold (RFC 6750 section 3), where the rule demands any scope."""
    return msgspec.structs.replace(verdict, scopes=tuple(sorted(rule.scopes))) if rule.scopes else verdict


def _verdict(rule: Rule, capability: str, code: str, reason: str) -> Verdict:
    return Verdict(
        authorized=False,
        code=code,
        reason=reason,
        capability=capability,
        rule=rule.id,
        line=rule.line,
    )


def _alternatives(when: Any) -> When:
    if not when:
        return ()
    return (when,) if isinstance(when, Mapping) else tuple(when)
