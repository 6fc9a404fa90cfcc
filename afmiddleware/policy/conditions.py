"""`when:` of a rule, compiled at load time to one function of an event.

Truth has three values. A test is true, or false, or cannot be judged (another currency, a text where a number is
compared); the last is never taken for false, since a deny rule would then be skipped by sending nonsense. "And" is
false when any part is false, "or" is true when any part is true; otherwise a part that cannot be judged is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import AFError, GrammarError, MoneyError
from afmiddleware.grammar.paths import MISSING, look_up, parse_path
from afmiddleware.grammar.quoting import quoted
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE, CURRENCY_MISMATCH
from afmiddleware.model.money import Money
from afmiddleware.model.risk import RISKS, check_risk
from afmiddleware.model.tier import Tier
from afmiddleware.policy.values import UnjudgedValueError, compile_compare, compile_listed, compile_value

if TYPE_CHECKING:
    from afmiddleware.grammar.lists import Words
    from afmiddleware.grammar.schedules import Schedule
    from afmiddleware.model.action import ActionEvent

Test = Callable[["ActionEvent", int], bool]
"""A compiled condition of an event and of now, in microseconds since the epoch.

Raises `UnjudgedError` when it can be taken neither as true nor as false.
"""

PAYLOAD: Final = "payload."

_TEXTS: Final[Mapping[str, Callable[[ActionEvent], str | None]]] = {
    "currency": lambda event: None if event.amount is None else event.amount.currency,
    "resource": lambda event: event.resource,
    "recipient": lambda event: event.recipient,
    "network": lambda event: event.network,
    "category": lambda event: event.category,
    "environment": lambda event: event.environment or None,
    "method": lambda event: event.method or None,
    "route": lambda event: event.route or None,
    "actor.id": lambda event: event.actor.id,
    "actor.tenant": lambda event: event.actor.tenant or None,
}
_SETS: Final[Mapping[str, Callable[[ActionEvent], frozenset[str]]]] = {
    "actor.roles": lambda event: event.actor.roles,
    "actor.scopes": lambda event: event.actor.scopes,
}
_COUNTED: Final[Mapping[str, Callable[[ActionEvent], int]]] = {
    "actor.depth": lambda event: event.actor.depth,
}
_ORDERED: Final = frozenset({"eq", "ne", "gt", "gte", "lt", "lte"})


class Names(msgspec.Struct, frozen=True):
    """What conditions may call by a name: currencies beyond ISO 4217, lists and schedules."""

    assets: Mapping[str, int] = MappingProxyType({})
    lists: Mapping[str, Words] = MappingProxyType({})
    schedules: Mapping[str, Schedule] = MappingProxyType({})


class UnjudgedError(AFError):
    """A condition that is neither true nor false for an event. `code` is a reason code, `reason` a safe sentence."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


def compile_when(when: Sequence[Mapping[str, Mapping[str, Any]]], names: Names) -> Test:
    """Compile alternatives ("or"), each a map of field to operators ("and").

    Raises `GrammarError` for an unknown field, operator or name, an operator that the field does not have, or a value
    that is not of the field's kind.
    """
    alternatives = tuple(_compile_all(fields, names) for fields in when)
    if not alternatives:
        msg = "a condition needs at least one field"
        raise GrammarError(msg)
    return alternatives[0] if len(alternatives) == 1 else _any_of(alternatives)


def reads_payload(when: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a condition needs the request's body."""
    return any(field.startswith(PAYLOAD) for fields in when for field in fields)


def _compile_all(fields: Mapping[str, Mapping[str, Any]], names: Names) -> Test:
    tests = tuple(
        compile_test(field, operator, value, names)
        for field, operators in fields.items()
        for operator, value in operators.items()
    )
    if not tests:
        msg = "a condition needs at least one field with an operator"
        raise GrammarError(msg)
    return tests[0] if len(tests) == 1 else _all_of(tests)


def _all_of(tests: tuple[Test, ...]) -> Test:
    def holds(event: ActionEvent, now: int) -> bool:
        unjudged: UnjudgedError | None = None
        for test in tests:
            try:
                if not test(event, now):
                    return False
            except UnjudgedError as error:
                unjudged = unjudged or error
        if unjudged is not None:
            raise unjudged
        return True

    return holds


def _any_of(tests: tuple[Test, ...]) -> Test:
    def holds(event: ActionEvent, now: int) -> bool:
        unjudged: UnjudgedError | None = None
        for test in tests:
            try:
                if test(event, now):
                    return True
            except UnjudgedError as error:
                unjudged = unjudged or error
        if unjudged is not None:
            raise unjudged
        return False

    return holds


def compile_test(field: str, operator: str, value: Any, names: Names) -> Test:
    """Compile one operator of one field. Raises `GrammarError` as `compile_when` does."""
    if field == "amount":
        return _compile_amount(operator, value, names.assets)
    if field == "actor.tier":
        return _compile_tier(operator, value)
    if field == "risk":
        return _compile_risk(operator, value)
    if field == "time":
        return _compile_time(operator, value, names.schedules)
    if field in _SETS:
        return _compile_set(field, operator, value, _SETS[field], names)
    return _compile_read(field, operator, value, _reader(field), names)


def seen(field: str, event: ActionEvent) -> object:
    """The value that conditions on a field see, `MISSING` when it is absent. `time` has none."""
    if field == "amount":
        return MISSING if event.amount is None else event.amount
    if field == "actor.tier":
        return event.actor.tier.label
    if field == "risk":
        return MISSING if event.risk is None else event.risk
    if field in _SETS:
        return sorted(_SETS[field](event)) or MISSING
    return MISSING if field == "time" else _reader(field)(event)


def _reader(field: str) -> Callable[[ActionEvent], object]:
    if field in _COUNTED:
        return _COUNTED[field]
    if field in _TEXTS:
        text = _TEXTS[field]

        def read_text(event: ActionEvent) -> object:
            found = text(event)
            return MISSING if found is None else found

        return read_text
    if field.startswith(PAYLOAD):
        path = parse_path(field.removeprefix(PAYLOAD))

        def read_payload(event: ActionEvent) -> object:
            found = look_up(event.payload, path)
            return MISSING if found is None else found

        return read_payload
    msg = f"{field!r} is not a field that conditions can read"
    raise GrammarError(msg)


def _compile_read(
    field: str,
    operator: str,
    value: Any,
    read: Callable[[ActionEvent], object],
    names: Names,
) -> Test:
    """A test of one value, absent being false for every operator but `exists: false`."""
    if operator == "exists":
        wanted = _truth(value)
        return lambda event, _now: (read(event) is not MISSING) is wanted
    words = _named(operator, value, names)
    judge = compile_value(operator, value) if words is None else compile_listed(operator, words)

    def test(event: ActionEvent, _now: int) -> bool:
        found = read(event)
        if found is MISSING:
            return False
        try:
            return judge(found)
        except UnjudgedValueError as error:
            raise UnjudgedError(AMOUNT_UNRESOLVABLE, f"{field} {error}, so a rule cannot be judged") from None

    return test


def _named(operator: str, value: Any, names: Names) -> Words | None:
    """The list that `in: $name` names, `None` for values that stand there themselves."""
    if operator not in {"in", "not_in"} or not isinstance(value, str) or not value.startswith("$"):
        return None
    words = names.lists.get(value[1:])
    if words is None:
        msg = f"{quoted(value)} names no list: declare it under lists"
        raise GrammarError(msg)
    return words


def _compile_time(operator: str, value: Any, schedules: Mapping[str, Schedule]) -> Test:
    if operator not in {"in", "not_in"}:
        msg = f"time has no operator {operator!r}: use in or not_in"
        raise GrammarError(msg)
    wanted = (value,) if isinstance(value, str) else _listed(value)
    unknown = [str(name) for name in wanted if name not in schedules]
    if unknown:
        msg = f"{quoted(unknown[0])} names no schedule: declare it under schedules"
        raise GrammarError(msg)
    chosen, inside = tuple(schedules[name] for name in wanted), operator == "in"
    return lambda _event, now: any(schedule.is_open(now) for schedule in chosen) is inside


def _compile_risk(operator: str, value: Any) -> Test:
    """Levels are ordered, and an action without one is absent."""
    if operator == "exists":
        wanted = _truth(value)
        return lambda event, _now: (event.risk is not None) is wanted
    try:
        if operator in {"in", "not_in"}:
            levels = frozenset(check_risk(str(level)) for level in _listed(value))
            inside = operator == "in"
            return lambda event, _now: event.risk is not None and (event.risk in levels) is inside
        if operator in _ORDERED:
            compare, level = compile_compare(operator), RISKS.index(check_risk(str(value)))
            return lambda event, _now: event.risk is not None and bool(compare(RISKS.index(event.risk), level))
    except ValueError as error:
        raise GrammarError(str(error)) from None
    msg = f"risk has no operator {operator!r}: use eq, ne, gt, gte, lt, lte, in, not_in or exists"
    raise GrammarError(msg)


def _compile_amount(operator: str, value: Any, assets: Mapping[str, int]) -> Test:
    if operator == "exists":
        wanted = _truth(value)
        return lambda event, _now: (event.amount is not None) is wanted
    if operator not in _ORDERED:
        msg = f"amount has no operator {operator!r}: use eq, ne, gt, gte, lt, lte or exists"
        raise GrammarError(msg)
    try:
        bound = value if isinstance(value, Money) else Money.parse(str(value), assets)
    except MoneyError as error:
        raise GrammarError(str(error)) from None
    compare, minor, currency, exponent = compile_compare(operator), bound.minor, bound.currency, bound.exponent

    def test(event: ActionEvent, _now: int) -> bool:
        money = event.amount
        if money is None:
            return False
        if money.currency != currency or money.exponent != exponent:
            raise UnjudgedError(CURRENCY_MISMATCH, "A rule for this action is in another currency.")
        return bool(compare(money.minor, minor))

    return test


def _compile_tier(operator: str, value: Any) -> Test:
    try:
        if operator in {"in", "not_in"}:
            tiers = frozenset(Tier.parse(str(label)) for label in _listed(value))
            inside = operator == "in"
            return lambda event, _now: (event.actor.tier in tiers) is inside
        if operator in _ORDERED:
            compare, tier = compile_compare(operator), Tier.parse(str(value))
            return lambda event, _now: bool(compare(event.actor.tier, tier))
    except ValueError as error:
        raise GrammarError(str(error)) from None
    msg = f"actor.tier has no operator {operator!r}: use eq, ne, gt, gte, lt, lte, in or not_in"
    raise GrammarError(msg)


def _compile_set(
    field: str,
    operator: str,
    value: Any,
    read: Callable[[ActionEvent], frozenset[str]],
    names: Names,
) -> Test:
    if operator == "contains":
        member = str(value)
        return lambda event, _now: member in read(event)
    if operator in {"in", "not_in"}:
        words = _named(operator, value, names)
        members = words.entries if words is not None else frozenset(str(one) for one in _listed(value))
        if words is not None and words.normalize:
            msg = f"{field} compares exactly, and the list is normalized: use one that is not"
            raise GrammarError(msg)
        if operator == "in":
            return lambda event, _now: not members.isdisjoint(read(event))
        return lambda event, _now: bool(read(event)) and members.isdisjoint(read(event))
    if operator == "exists":
        wanted = _truth(value)
        return lambda event, _now: bool(read(event)) is wanted
    msg = f"{field} has no operator {operator!r}: use contains, in, not_in or exists"
    raise GrammarError(msg)


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(value)
    msg = "in and not_in need a list"
    raise GrammarError(msg)


def _truth(value: Any) -> bool:
    truth = {"true": True, "false": False}.get(str(value).lower())
    if truth is None:
        msg = "exists is true or false"
        raise GrammarError(msg)
    return truth
