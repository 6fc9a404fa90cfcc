"""What a policy may say and yet hardly means: every finding with a stable id, its line and what to do. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from afmiddleware.grammar.capability import matches
from afmiddleware.model.tier import Tier
from afmiddleware.policy.agents import AGENTS, PROVEN_AGENTS
from afmiddleware.policy.lint_money import other_currencies, under
from afmiddleware.policy.lint_names import MAPPED, names_nothing, reads_nothing
from afmiddleware.policy.patterns import covers, meets
from afmiddleware.policy.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from afmiddleware.model.limit import Limit
    from afmiddleware.policy.compiled import Policy

UNREACHABLE: Final = "rule.unreachable"
SHADOWED: Final = "rule.shadowed"
NEVER: Final = "rule.never_holds"
NAMES_NOTHING: Final = "rule.names_nothing"
OPENS_NOTHING: Final = "approval.opens_nothing"
UNMAPPED_FIELD: Final = "rule.field_unmapped"
MAY_OMIT: Final = "rule.caller_may_omit"
MAY_HIDE: Final = "rule.caller_may_hide"
UNMARKED: Final = "rule.agents_unmarked"
ROUTE_CLOSED: Final = "route.never_allowed"
MONEY_OPEN: Final = "money.without_identity"
OTHER_CURRENCY: Final = "money.other_currency"
NEVER_BINDS: Final = "limit.never_binds"
SESSION_ALONE: Final = "limit.session_alone"
STOPS_NOBODY: Final = "actor.only_observed"
UNUSED_RISK: Final = "risk.unused"
UNUSED_NAME: Final = "name.unused"
IN_MEMORY: Final = "ledger.in_memory"

IDS: Final = (
    UNREACHABLE,
    SHADOWED,
    NEVER,
    NAMES_NOTHING,
    OPENS_NOTHING,
    UNMAPPED_FIELD,
    MAY_OMIT,
    MAY_HIDE,
    UNMARKED,
    ROUTE_CLOSED,
    MONEY_OPEN,
    OTHER_CURRENCY,
    NEVER_BINDS,
    SESSION_ALONE,
    STOPS_NOBODY,
    UNUSED_RISK,
    UNUSED_NAME,
    IN_MEMORY,
)
"""The ids of all findings, which never change their meaning."""

_FORGETS: Final = (
    "ledger: memory counts in one process alone and forgets limits, keys and receipts when that ends; a server with "
    "several workers does not start with it. Write ledger: sqlite:///fence.db, or keep it for tests and demonstrations"
)
_SAID_BY_CREDENTIALS: Final = frozenset({"actor.id", "actor.tenant", "actor.roles", "actor.scopes", "actor.depth"})


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something to look at: its line in the policy file (0 for the file as a whole), its id, and what to do."""

    line: int
    id: str
    text: str


class RouteSource(Protocol):
    """A route of the policy file."""

    @property
    def route(self) -> str: ...
    @property
    def capability(self) -> str | None: ...
    @property
    def line(self) -> int: ...


class ActorSource(Protocol):
    """What the policy file says of one actor."""

    @property
    def enabled(self) -> bool: ...
    @property
    def line(self) -> int: ...


def lint(  # noqa: PLR0913 (a part of the file each)
    policy: Policy,
    routes: Sequence[RouteSource],
    limits: Sequence[Limit],
    *,
    currency: str,
    mode: str = "enforce",
    actors: Mapping[str, ActorSource] = MappingProxyType({}),
    unmarked: str = "",
    in_memory: bool = False,
) -> list[Finding]:
    """Look through a policy, in the order of the file.

    `currency`, `mode` and `actors` are those of the file; `unmarked` are the marks of agents that it does not look at;
    `in_memory` says that its ledger ends with the process.
    """
    mapped = [route for route in routes if route.capability and "{" not in route.capability]
    found: list[Finding] = [
        *_reach(policy),
        *_conditions(policy),
        *(
            Finding(rule.line, NEVER, f"{_named(rule)} never holds: {why}")
            for rule, why in reads_nothing(policy, mapped)
        ),
        *_omissions(policy, mapped),
        *_hidden(policy),
        *(_unmarked(policy, routes, unmarked) if unmarked else ()),
        *_names(policy, routes),
        *_routes(policy, mapped),
        *_limits(limits, mapped),
        *_sessions(limits),
        *_currencies(policy, mapped, limits, currency),
        *_observed(mode, actors),
        *_unused(policy, routes),
        *([Finding(0, IN_MEMORY, _FORGETS)] if in_memory else ()),
    ]
    return sorted(set(found))


def _reach(policy: Policy) -> Iterator[Finding]:
    plain = [rule for rule in policy.rules["deny"] if rule.holds is None and not rule.observe]
    allows = policy.rules["allow"]
    for kind in ("deny", "require_approval", "allow"):
        for rule in policy.rules[kind]:
            denied = _denied_by(rule, plain)
            if denied is not None:
                text = f"{_named(rule)} decides nothing, since {denied.id} denies all of it; remove one of them"
                yield Finding(rule.line, UNREACHABLE, text)
    for place, rule in enumerate(allows):
        wider = next((one for one in allows[:place] if _open(one) and covers(one.pattern, rule.pattern)), None)
        if wider is not None:
            text = f"{_named(rule)} decides nothing, since {wider.id} allows all of it without a demand; remove one"
            yield Finding(rule.line, SHADOWED, text)
    for rule in policy.rules["require_approval"]:
        if not any(meets(rule.pattern, one.pattern) for one in allows):
            text = f"{_named(rule)} lifts a threshold of nothing, since no rule allows it; add an allow rule"
            yield Finding(rule.line, OPENS_NOTHING, text)


def _denied_by(rule: Rule, plain: Sequence[Rule]) -> Rule | None:
    """The plain denial that decides all that a rule could. Of two that deny the same it is the first."""
    for one in plain:
        if one is not rule and covers(one.pattern, rule.pattern):
            return one
        if one is rule:
            return next(
                (
                    wider
                    for wider in plain
                    if covers(wider.pattern, rule.pattern) and not covers(rule.pattern, wider.pattern)
                ),
                None,
            )
    return None


def _open(rule: Rule) -> bool:
    """Whether an allow rule allows everything that it covers to everybody."""
    return not (rule.holds or rule.tier or rule.scopes or rule.roles or rule.priced)


def _conditions(policy: Policy) -> Iterator[Finding]:
    for rule in (rule for rules in policy.rules.values() for rule in rules):
        reasons = [_impossible(policy, fields) for fields in rule.when]
        if reasons and all(reasons):
            yield Finding(rule.line, NEVER, f"{_named(rule)} never holds: {reasons[0]}; correct it, or remove the rule")


def _impossible(policy: Policy, fields: Any) -> str | None:
    """Why no action meets all conditions, `None` when some may."""
    for field, operators in fields.items():
        for operator in ("in", "eq"):
            wanted = operators.get(operator)
            if isinstance(wanted, str) and wanted.startswith("$") and not policy.names.lists[wanted[1:]].entries:
                return f"the list {wanted[1:]} is empty"
        chosen, excluded = _set_of(policy, operators, "in", "eq"), _set_of(policy, operators, "not_in", "ne")
        if (
            field not in {"actor.roles", "actor.scopes", "time"}
            and chosen is not None
            and chosen <= (excluded or set())
        ):
            return f"{field} is asked to be in what it may not be in"
        if operators.get("exists") == "false" and len(operators) > 1:
            return f"{field} is asked to be absent and to have a value"
    return None


def _set_of(policy: Policy, operators: Any, many: str, one: str) -> set[str] | None:
    wanted = operators.get(many, operators.get(one))
    if wanted is None:
        return None
    if isinstance(wanted, str) and many in operators and wanted.startswith("$"):
        return set(policy.names.lists[wanted[1:]].entries)
    return {wanted} if isinstance(wanted, str) else set(wanted)


def _reads(route: RouteSource) -> bool:
    """Whether a route reads, which costs nothing unless an amount is mapped."""
    return route.route.partition(" ")[0] in {"GET", "HEAD", "QUERY"}


def _omissions(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[Finding]:
    """Rules that refuse under a condition, which is false for what is not there."""
    for rule in (*policy.rules["deny"], *policy.rules["require_approval"]):
        fields = {field for one in rule.when for field in one}
        covered = [route for route in routes if matches(rule.pattern, str(route.capability))]
        for field in sorted(fields & set(MAPPED)):
            lacking = [
                route.route
                for route in covered
                if getattr(route, field, None) is None and not (field == "amount" and _reads(route))
            ]
            if lacking and "exists" not in {op for one in rule.when for op in one.get(field, {})}:
                text = f"{_named(rule)} reads {field}, which {lacking[0]} does not map: it never holds there; map it"
                yield Finding(rule.line, UNMAPPED_FIELD, text)
        omitted = sorted(field for field in fields if field.startswith("payload."))
        if omitted and not any("exists" in operators for one in rule.when for operators in one.values()):
            text = (
                f"{_named(rule)} does not hold where the caller leaves out {omitted[0].removeprefix('payload.')}; "
                f"deny {{{omitted[0]}: {{exists: false}}}} too, if the handler has a value of its own then"
            )
            yield Finding(rule.line, MAY_OMIT, text)


def _hidden(policy: Policy) -> Iterator[Finding]:
    """Rules that refuse somebody who is allowed again once it leaves its credential out."""
    open_to_all = [rule for rule in policy.rules["allow"] if _for_anybody(rule)]
    for rule in (*policy.rules["deny"], *policy.rules["require_approval"]):
        fields = sorted({name for one in rule.when for name, told in one.items() if _proves(name, told)})
        opened = next((one for one in open_to_all if fields and meets(one.pattern, rule.pattern)), None)
        if opened is not None:
            text = (
                f"{_named(rule)} asks for {fields[0]}, and {opened.id} allows those who hide who they are; "
                f"add identity: token to {opened.id}"
            )
            yield Finding(rule.line, MAY_HIDE, text)


def _unmarked(policy: Policy, routes: Sequence[RouteSource], what: str) -> Iterator[Finding]:
    """What is for agents, where an agent that drives a user's session goes for that user."""
    text = f"is for agents, and agent_detection does not look at {what}, so one in a user's session passes; do"
    for rule in (*policy.rules["deny"], *policy.rules["require_approval"]):
        if rule.applies_to == AGENTS:
            yield Finding(rule.line, UNMARKED, f"{_named(rule)} {text}")
    for route in routes:
        if getattr(route, "applies_to", "") == AGENTS:
            yield Finding(route.line, UNMARKED, f"{route.route} {text}")


def _proves(field: str, operators: Any) -> bool:
    """Whether a condition only holds for what a credential says."""
    absent = operators.get("exists") == "false" or {"ne", "not_in", "lt", "lte"}.issuperset(operators)
    return field in _SAID_BY_CREDENTIALS and not absent


def _for_anybody(rule: Rule) -> bool:
    demands = rule.scopes or rule.roles or _asks_tier(rule) or rule.applies_to == PROVEN_AGENTS
    return rule.tier is Tier.ANONYMOUS and not demands


def _names(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[Finding]:
    for rule, why in names_nothing(policy, routes):
        yield Finding(rule.line, NAMES_NOTHING, f"{_named(rule)} refuses nothing there: {why}")


def _routes(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[Finding]:
    for route in routes:
        plan = policy.matching(str(route.capability))
        if not plan.allows:
            text = (
                f"{route.route} is never allowed, since no rule allows {route.capability}; add one, or remove the route"
            )
            yield Finding(route.line, ROUTE_CLOSED, text)
        elif _lacks_amount(route) and plan.denied is None and all(rule.priced for rule, _ in plan.allows):
            text = (
                f"{route.route} is never allowed, since it maps no amount and {plan.allows[0][0].id} asks for one; "
                f"map it, or allow {route.capability} by a rule without max_amount and currency"
            )
            yield Finding(route.line, ROUTE_CLOSED, text)
        if getattr(route, "amount", None) is None or plan.denied is not None:
            continue
        for rule, _ in plan.allows:
            if _for_anybody(rule):
                text = (
                    f"{_named(rule)} lets anybody use {route.route}, which moves money; add identity: token or verified"
                )
                yield Finding(rule.line, MONEY_OPEN, text)


def _lacks_amount(route: RouteSource) -> bool:
    return getattr(route, "amount", None) is None and not _reads(route) and not getattr(route, "protocol", None)


def _asks_tier(rule: Rule) -> bool:
    return bool(rule.when) and all("actor.tier" in fields for fields in rule.when)


def _limits(limits: Sequence[Limit], routes: Sequence[RouteSource]) -> Iterator[Finding]:
    for place, limit in enumerate(limits):
        pattern = under(limit)
        covered = [route for route in routes if matches(pattern, str(route.capability))]
        if routes and not covered:
            text = f"the limit {limit.name} counts nothing, since no route has a capability under {pattern}; correct it"
            yield Finding(limit.line, NEVER_BINDS, text)
        elif routes and limit.currency and all(getattr(route, "amount", None) is None for route in covered):
            text = f"the limit {limit.name} counts nothing, since no route under {pattern} has an amount; map one"
            yield Finding(limit.line, NEVER_BINDS, text)
        for other in limits:
            alike = (limit.unit, limit.per, limit.window, limit.currency, limit.quota, limit.admitted) == (
                other.unit, other.per, other.window, other.currency, other.quota, other.admitted,
            )  # fmt: skip
            narrower = other.cap < limit.cap or (other.cap == limit.cap and other in limits[:place])
            if alike and narrower and covers(under(other), pattern):
                text = f"the limit {limit.name} never refuses, since {other.name} is reached before it; remove one"
                yield Finding(limit.line, NEVER_BINDS, text)
                break


def _sessions(limits: Sequence[Limit]) -> Iterator[Finding]:
    """What a session may spend is a part of what its caller may: a caller can have several.

    A limit that is not counted by the session is one for the caller itself.
    """
    for limit in limits:
        if not limit.currency:
            continue
        others = [one for one in limits if one.currency == limit.currency and "session" not in one.per.split("+")]
        if not any(covers(under(one), under(limit)) for one in others):
            text = f"nothing but {limit.name} stops a caller who has several sessions; add a spend limit per: actor"
            yield Finding(limit.line, SESSION_ALONE, text)


def _currencies(
    policy: Policy, routes: Sequence[RouteSource], limits: Sequence[Limit], currency: str
) -> Iterator[Finding]:
    """Rules and limits whose amounts are in a currency that nothing here is paid in."""
    for what, pays in other_currencies(policy, routes, limits, currency):
        named = _named(what) if isinstance(what, Rule) else f"the limit {what.name}"
        text = f"{named} is in a currency that no amount under it has: those are in {pays}; write that one"
        yield Finding(what.line, OTHER_CURRENCY, text)


def _observed(mode: str, actors: Mapping[str, ActorSource]) -> Iterator[Finding]:
    for name, actor in actors.items():
        if mode != "enforce" and not actor.enabled:
            text = f"enabled: false stops {name} nowhere that the fence only observes; write mode: enforce"
            yield Finding(actor.line, STOPS_NOBODY, text)


def _unused(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[Finding]:
    levels = {getattr(route, "risk", None) for route in routes}
    for level, rule in policy.risk.items():
        if routes and level not in levels:
            text = f"rules.risk says what becomes of {level}, and no route has that risk; mark one, or remove it"
            yield Finding(rule.line, UNUSED_RISK, text)
    tests = [
        (field, wanted)
        for rules in policy.rules.values()
        for rule in rules
        for fields in rule.when
        for field, operators in fields.items()
        for wanted in operators.values()
    ]
    lists = {wanted[1:] for _, wanted in tests if isinstance(wanted, str) and wanted.startswith("$")}
    times = {name for field, wanted in tests if field == "time" for name in _each(wanted)}
    yield from _unnamed("list", policy.names.lists, lists)
    yield from _unnamed("schedule", policy.names.schedules, times)


def _each(wanted: Any) -> Iterable[str]:
    return (wanted,) if isinstance(wanted, str) else wanted


def _unnamed(what: str, known: Iterable[str], used: Collection[str]) -> Iterator[Finding]:
    for name in known:
        if name not in used:
            yield Finding(0, UNUSED_NAME, f"no rule names the {what} {name}; use it, or remove it")


def _named(rule: Rule) -> str:
    return f"the {rule.kind} rule {rule.id}"
