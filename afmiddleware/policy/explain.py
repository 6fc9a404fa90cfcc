"""Why a verdict is what it is: every rule that covers the action, each condition with the value seen, each demand.

It stands beside the decision and asks the same compiled tests, one at a time; the decision pays nothing for it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.grammar.amounts import to_major
from afmiddleware.grammar.paths import MISSING
from afmiddleware.model.limit import Balance, Unit
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.conditions import UnjudgedError, compile_test, seen
from afmiddleware.policy.rules import Rule, amount_failure, only_observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.policy.compiled import Policy

ABSENT: Final = "(absent)"
HIDDEN: Final = "(redacted)"
_LONGEST: Final = 120
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One operator of one field: what the rule wants, what the action has. `holds` is `None` when nobody can tell."""

    field: str
    operator: str
    wanted: str
    seen: str
    holds: bool | None
    why: str = ""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """One demand of an allow rule: what it wants, what the caller has."""

    name: str
    wanted: str
    seen: str
    met: bool


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that covers the action.

    `outcome` is `applies`, `observes`, `condition false`, `demand not met` or `cannot be judged`. `when` is its
    alternatives, one of which has to hold as a whole; there are none for an unconditional rule.
    """

    kind: str
    id: str
    line: int
    capability: str
    outcome: str
    when: tuple[tuple[Condition, ...], ...] = ()
    demands: tuple[Demand, ...] = ()


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: what is used of it, what the action asks of it, and when more is free (RFC 3339, empty for never)."""

    name: str
    line: int
    used: str
    asked: str
    cap: str
    resets_at: str
    fits: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with everything that led to it, in the order in which it is decided."""

    verdict: Verdict
    rules: tuple[Told, ...] = ()
    limits: tuple[Stand, ...] = ()


def _of_payload(field: str) -> bool:
    return field.startswith("payload.")


def explain(
    policy: Policy,
    event: ActionEvent,
    now: int,
    hidden: Callable[[str], bool] = _of_payload,
) -> Explanation:
    """Explain what the rules say of an event at `now`, in microseconds since the epoch.

    `hidden` tells the fields (`payload.card.number`, `recipient`) whose values are not shown; by default all of the
    payload is.
    """
    plan = policy.matching(event.capability)
    told = [_told(policy, rule, event, now, hidden) for rule, _ in (*plan.denies, *plan.approvals)]
    level = policy.risk.get(event.risk) if event.risk is not None else None
    if level is not None:
        told.append(
            Told(kind=level.kind, id=level.id, line=level.line, capability="**", outcome="applies"),
        )
    told += [_told(policy, rule, event, now, hidden) for rule, _ in plan.allows]
    return Explanation(verdict=policy.decide(event, now), rules=tuple(told))


def _told(policy: Policy, rule: Rule, event: ActionEvent, now: int, hidden: Callable[[str], bool]) -> Told:
    try:
        holds: bool | None = rule.holds is None or rule.holds(event, now)
    except UnjudgedError:
        holds = None
    demands = _demands(rule, event)
    if holds is None:
        outcome = "cannot be judged"
    elif not holds:
        outcome = "condition false"
    elif not all(demand.met for demand in demands):
        outcome = "demand not met"
    else:
        outcome = "applies"
    if outcome in {"applies", "cannot be judged"} and rule.observe and only_observed(rule, event.actor):
        outcome = "observes"
    return Told(
        kind=rule.kind,
        id=rule.id,
        line=rule.line,
        capability=rule.pattern,
        outcome=outcome,
        when=tuple(
            tuple(
                _condition(policy, event, now, field, operator, wanted, hidden)
                for field, operators in fields.items()
                for operator, wanted in operators.items()
            )
            for fields in rule.when
        ),
        demands=demands,
    )


def _condition(  # noqa: PLR0913 (one test of one rule)
    policy: Policy,
    event: ActionEvent,
    now: int,
    field: str,
    operator: str,
    wanted: Any,
    hidden: Callable[[str], bool],
) -> Condition:
    why = ""
    try:
        holds: bool | None = compile_test(field, operator, wanted, policy.names)(event, now)
    except UnjudgedError as error:
        holds, why = None, error.reason
    value = moment(now) if field == "time" else seen(field, event)
    shown = HIDDEN if value is not MISSING and hidden(field) else _text(value)
    return Condition(field=field, operator=operator, wanted=_text(wanted), seen=shown, holds=holds, why=why)


def _demands(rule: Rule, event: ActionEvent) -> tuple[Demand, ...]:
    actor, money = event.actor, event.amount
    had = ABSENT if money is None else str(money)
    found: list[Demand] = []
    if rule.tier:
        met = actor.tier >= rule.tier
        found.append(Demand(name="identity", wanted=rule.tier.label, seen=actor.tier.label, met=met))
    for name, needed, held in (("scopes", rule.scopes, actor.scopes), ("roles", rule.roles, actor.roles)):
        if needed:
            found.append(Demand(name=name, wanted=_text(needed), seen=_text(held) or ABSENT, met=needed <= held))
    if rule.currencies:
        met = money is not None and money.currency in rule.currencies
        found.append(Demand(name="currency", wanted=_text(rule.currencies), seen=had, met=met))
    if rule.max_amount is not None:
        alone = msgspec.structs.replace(rule, currencies=frozenset())
        met = amount_failure(alone, event) is None
        found.append(Demand(name="max_amount", wanted=str(rule.max_amount), seen=had, met=met))
    return tuple(found)


def stands(balances: Iterable[Balance], event: ActionEvent, refused_by: str = "") -> tuple[Stand, ...]:
    """How limits stand to an event that was not charged. `refused_by` names the limit that refuses it."""
    minor = event.amount.minor if event.amount is not None else 0
    found = []
    for balance in balances:
        limit = balance.limit
        asked = minor if limit.unit is Unit.SPEND else 1
        found.append(
            Stand(
                name=limit.name,
                line=limit.line,
                used=_counted(balance, balance.used),
                asked=_counted(balance, asked),
                cap=_counted(balance, limit.cap),
                resets_at=moment(balance.resets_at) if _comes_back(balance) else "",
                fits=limit.name != refused_by and balance.used + asked <= limit.cap,
            ),
        )
    return tuple(found)


def _comes_back(balance: Balance) -> bool:
    """Whether there is a time to tell: of a window by the calendar, or of what is used of another."""
    used = balance.used or balance.limit.window.kind not in ("rolling", "pacing")
    return bool(balance.resets_at and used)


def _counted(balance: Balance, count: int) -> str:
    limit = balance.limit
    return f"{to_major(count, limit.exponent)} {limit.currency}" if limit.unit is Unit.SPEND else str(count)


def moment(now: int) -> str:
    """A time in microseconds since the epoch as RFC 3339, in UTC and whole seconds."""
    return (_EPOCH + timedelta(microseconds=now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: object) -> str:
    if value is MISSING:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (frozenset, set, tuple, list)):
        text = ", ".join(sorted(map(str, value)) if isinstance(value, (frozenset, set)) else map(str, value))
    else:
        text = str(value)
    plain = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}... ({len(plain)} characters)"
