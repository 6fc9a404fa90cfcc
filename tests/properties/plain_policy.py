"""A policy decided slowly and plainly, in the order and the words of POLICY.md, with nothing of the product's decision.

What it shares with the product is the grammar alone: money, patterns, paths.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from afmiddleware.grammar.capability import matches
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier

LEVELS = ["low", "medium", "high", "critical"]
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
ABSENT = object()


def decide(  # noqa: C901, PLR0912 (read from top to bottom)
    rules: Any, lists: Any, schedules: Any, frozen: Any, event: Any, now: int, asked: Counter[str]
) -> tuple[bool, str, str]:
    """Whether the event is allowed, the reason code (`doubt` for what cannot be judged) and the rule that decided.

    `asked` counts the operators that were asked of the event, with what was found.
    """
    if event.actor.id in frozen:
        return False, "actor.frozen", ""

    def holds(rule: Any) -> bool | None:
        return when(rule.when, lists, schedules, event, now, asked)

    covering = {kind: covered(rules, kind, event) for kind in ("deny", "require_approval", "allow")}
    # A plain deny is certain before anything is read of the event, so it is named first.
    for rule in covering["deny"]:
        if not rule.when and not rule.observe and rule.applies_to == "all":
            return False, "policy.denied", rule.id
    risk = rules.risk.get(event.risk)
    if risk == "deny":
        return False, "policy.denied", f"risk.{event.risk}"
    enforced = [rule for rule in covering["deny"] if not observed(rule, event)]
    for rule in enforced:
        if holds(rule) is True:
            return False, "policy.denied", rule.id
    for rule in enforced:
        if holds(rule) is None:
            return False, "doubt", rule.id
    satisfied = [rule for rule in covering["allow"] if holds(rule) is True and demands(rule, event)]
    if not satisfied:
        return False, "no rule", ""
    asking = [rule for rule in covering["require_approval"] if not observed(rule, event)]
    for rule in asking:
        if holds(rule) is None:
            return False, "doubt", rule.id
    if risk == "require_approval":
        return False, "approval.required", f"risk.{event.risk}"
    for rule in asking:
        if holds(rule) is True:
            return False, "approval.required", rule.id
    return True, "policy.allowed", satisfied[0].id


def covered(rules: Any, kind: str, event: Any) -> list[Any]:
    """The rules whose pattern covers the event, and that are for its actor."""
    return [
        rule
        for rule in getattr(rules, kind)
        if matches(rule.capability, event.capability) and applies(kind, rule.applies_to, event.actor)
    ]


def applies(kind: str, scope: str, actor: Any) -> bool:
    """To hide what one is opens nothing: a refusal of agents is for all but people, what allows them is for the proven."""
    if scope == "all":
        return True
    if kind == "allow":
        return bool(actor.agent) if scope == "proven_agents" else not actor.signed_in
    return not actor.signed_in or (scope == "agents" and bool(actor.marked))


def reasons(rules: Any, lists: Any, schedules: Any, event: Any, now: int) -> tuple[set[str], bool]:
    """The codes that may say why no rule allows an event, and whether a demand alone is why."""
    codes: set[str] = set()
    alone = False
    for rule in rules.allow:
        if not matches(rule.capability, event.capability):
            continue
        met = when(rule.when, lists, schedules, event, now, Counter())
        lacking = unmet(rule, event)
        codes |= lacking | ({"amount.unresolvable", "currency.mismatch"} if met is None else set())
        alone = alone or (met is True and bool(lacking) and applies("allow", rule.applies_to, event.actor))
    return codes, alone


def unmet(rule: Any, event: Any) -> set[str]:
    """The codes of the demands that are not met."""
    actor, money = event.actor, event.amount
    codes = set()
    if (rule.identity and actor.tier < Tier.parse(rule.identity)) or not applies("allow", rule.applies_to, actor):
        codes.add("identity.tier")
    if not set(rule.scopes) <= set(actor.scopes) or not set(rule.roles) <= set(actor.roles):
        codes.add("identity.scope")
    if codes and actor.anonymous:
        codes = {"identity.required"}
    cap = Money.parse(rule.max_amount) if rule.max_amount else None
    if money is None:
        return codes | ({"amount.unresolvable"} if cap or rule.currency else set())
    if (rule.currency and money.currency not in rule.currency) or (cap and money.currency != cap.currency):
        codes.add("currency.mismatch")
    elif cap and money.minor > cap.minor:
        codes.add("amount.over_action_cap")
    return codes


def observed(rule: Any, event: Any) -> bool:
    drawn = hashlib.sha256(f"observe\0{rule.id}\0{event.actor.id}".encode()).digest()
    if event.actor.anonymous:
        return bool(rule.observe == 10_000)  # a share never holds strangers
    return bool(int.from_bytes(drawn[:8], "big") % 10_000 < rule.observe)


def demands(rule: Any, event: Any) -> bool:
    actor, money = event.actor, event.amount
    if rule.identity and actor.tier < Tier.parse(rule.identity):
        return False
    if not set(rule.scopes) <= set(actor.scopes) or not set(rule.roles) <= set(actor.roles):
        return False
    if rule.currency and (money is None or money.currency not in rule.currency):
        return False
    if not rule.max_amount:
        return True
    cap = Money.parse(rule.max_amount)
    return money is not None and money.currency == cap.currency and money.minor <= cap.minor


def when(alternatives: Any, lists: Any, schedules: Any, event: Any, now: int, asked: Counter[str]) -> bool | None:
    if not alternatives:
        return True
    found = []
    for fields in alternatives:
        parts = []
        for field, operators in fields.items():
            for operator, wanted in operators.items():
                parts.append(test(field, operator, wanted, lists, schedules, event, now))
                asked[f"{operator} {parts[-1]}"] += 1
        found.append(False if False in parts else None if None in parts else True)
    return True if True in found else None if None in found else False


def test(field: str, operator: str, wanted: Any, lists: Any, schedules: Any, event: Any, now: int) -> Any:
    if field == "time":
        inside = any(is_open(schedules[name], now) for name in ([wanted] if isinstance(wanted, str) else wanted))
        return inside if operator == "in" else not inside
    value = read(field, event)
    if operator == "exists":
        return (value is not ABSENT) == (wanted == "true")
    if value is ABSENT:
        return False
    if field == "amount":
        bound = Money.parse(wanted)
        return None if bound.currency != value.currency else ordered(operator, value.minor, bound.minor)
    if field in {"risk", "actor.tier"}:
        scale = LEVELS if field == "risk" else ["anonymous", "token", "verified"]
        if operator in {"in", "not_in"}:
            return (value in wanted) == (operator == "in")
        return ordered(operator, scale.index(value), scale.index(wanted))
    if field in {"actor.roles", "actor.scopes"}:
        if operator == "contains":
            return wanted in value
        among = lists[wanted[1:]][0] if isinstance(wanted, str) else wanted
        return any(one in among for one in value) == (operator == "in")
    return on_value(operator, wanted, lists, value)


def on_value(operator: str, wanted: Any, lists: Any, value: Any) -> Any:  # noqa: C901, PLR0912
    text = value if type(value) is str else None
    if operator in {"in", "not_in", "eq", "ne"}:
        normalize = ""
        if operator in {"eq", "ne"}:
            wanted = [wanted]
        elif isinstance(wanted, str):
            wanted, normalize = lists[wanted[1:]]
        if normalize:
            if text is None or (normalize == "evm" and not re.fullmatch("0x[0-9a-fA-F]{40}", text)):
                return None
            inside = text.lower() in [one.lower() for one in wanted]
        elif text is not None:
            inside = text in wanted
        elif isinstance(value, bool):
            inside = str(value).lower() in wanted
        elif number(value) is None:
            return None
        else:
            inside = any(number(value) == number(one) for one in wanted)
        return inside == (operator in {"in", "eq"})
    if operator in {"gt", "gte", "lt", "lte"}:
        left = None if isinstance(value, bool) else number(value)
        return None if left is None else ordered(operator, left, number(wanted))
    if operator == "contains":
        return wanted in text if text is not None else any(
            bool(on_value("contains", wanted, lists, one))
            for one in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else [])
        )  # fmt: skip
    if text is None:
        return None
    if operator == "starts_with":
        return text[: len(wanted)] == wanted
    if operator == "ends_with":
        return text[-len(wanted) :] == wanted
    if operator == "matches":
        return None if len(text.encode()) > 4096 else re.fullmatch(wanted, text) is not None
    assert operator == "under"
    parts = text.split("/")
    if "\\" in text or "\0" in text or "//" in text or "." in parts or ".." in parts:
        return None
    base = wanted.rstrip("/").split("/")
    return parts[: len(base)] == base


def ordered(operator: str, left: Any, right: Any) -> Any:
    if operator in {"eq", "ne"}:
        return (left == right) == (operator == "eq")
    if operator in {"gt", "gte"}:
        return bool(left > right or (operator == "gte" and left == right))
    return bool(left < right or (operator == "lte" and left == right))


def number(value: Any) -> Decimal | None:
    text = str(value)
    try:
        return Decimal(text) if NUMBER.fullmatch(text) else None
    except InvalidOperation:
        return None


def read(field: str, event: Any) -> Any:
    if field.startswith("payload."):
        value: Any = event.payload
        for part in field.split(".")[1:]:
            value = value.get(part) if isinstance(value, dict) else None
        return ABSENT if value is None else value
    if field == "actor.tier":
        return event.actor.tier.label
    if field == "actor.depth":
        return event.actor.depth
    if field == "currency":
        return event.amount.currency if event.amount else ABSENT
    owner, name = (event.actor, field[6:]) if field.startswith("actor.") else (event, field)
    value = getattr(owner, name)
    return ABSENT if value is None or value in ("", frozenset()) else value


def is_open(schedule: Any, now: int) -> bool:
    hours, closed, zone = schedule
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).astimezone(ZoneInfo(zone))
    if any(first <= local.strftime("%Y-%m-%d") <= last for first, last in closed):
        return False
    if not hours:
        return True
    minute = local.strftime("%H:%M")
    for line in hours:
        days, _, span = line.partition(" ")
        start, _, end = span.partition("-")
        names = DAYS if days == "daily" else days.split(",")
        today, before = DAYS[local.weekday()] in names, DAYS[local.weekday() - 1] in names
        if start < end and today and start <= minute < end:
            return True
        if start > end and ((today and minute >= start) or (before and minute < end)):
            return True
    return False
