"""`when:` of a rule, compiled at load time to one function of an event.

Truth has three values. A test is true, or false, or cannot be judged (another currency, a text where a number is
compared); the last is never taken for false, since a deny rule would then be skipped by sending nonsense. "And" is
false when any part is false, "or" is true when any part is true; otherwise a part that cannot be judged is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import AFError, GrammarError, MoneyError
from afmiddleware.grammar.paths import MISSING, look_up, parse_path
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE, CURRENCY_MISMATCH
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.policy.values import UnjudgedValueError, compile_compare, compile_value

if TYPE_CHECKING:
    from afmiddleware.model.action import ActionEvent

Test = Callable[["ActionEvent"], bool]
"""A compiled condition. Raises `UnjudgedError` when it can be taken neither as true nor as false."""

PAYLOAD: Final = "payload."

_TEXTS: Final[Mapping[str, Callable[[ActionEvent], str | None]]] = {
    "currency": lambda event: None if event.amount is None else event.amount.currency,
    "resource": lambda event: event.resource,
    "recipient": lambda event: event.recipient,
    "network": lambda event: event.network,
    "category": lambda event: event.category,
    "environment": lambda event: event.environment or None,
    "risk": lambda event: event.risk,
    "method": lambda event: event.method or None,
    "route": lambda event: event.route or None,
    "actor.id": lambda event: event.actor.id,
    "actor.tenant": lambda event: event.actor.tenant or None,
}
_SETS: Final[Mapping[str, Callable[[ActionEvent], frozenset[str]]]] = {
    "actor.roles": lambda event: event.actor.roles,
    "actor.scopes": lambda event: event.actor.scopes,
}
_ORDERED: Final = frozenset({"eq", "ne", "gt", "gte", "lt", "lte"})


class UnjudgedError(AFError):
    """A condition that is neither true nor false for an event. `code` is a reason code, `reason` a safe sentence."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


def compile_when(when: Sequence[Mapping[str, Mapping[str, Any]]], assets: Mapping[str, int]) -> Test:
    """Compile alternatives ("or"), each a map of field to operators ("and").

    `assets` are currencies beyond ISO 4217. Raises `GrammarError` for an unknown field or operator, an operator that
    the field does not have, or a value that is not of the field's kind.
    """
    alternatives = tuple(_compile_all(fields, assets) for fields in when)
    if not alternatives:
        msg = "a condition needs at least one field"
        raise GrammarError(msg)
    return alternatives[0] if len(alternatives) == 1 else _any_of(alternatives)


def reads_payload(when: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a condition needs the request's body."""
    return any(field.startswith(PAYLOAD) for fields in when for field in fields)


def _compile_all(fields: Mapping[str, Mapping[str, Any]], assets: Mapping[str, int]) -> Test:
    tests = tuple(
        _compile_test(field, operator, value, assets)
        for field, operators in fields.items()
        for operator, value in operators.items()
    )
    if not tests:
        msg = "a condition needs at least one field with an operator"
        raise GrammarError(msg)
    return tests[0] if len(tests) == 1 else _all_of(tests)


def _all_of(tests: tuple[Test, ...]) -> Test:
    def holds(event: ActionEvent) -> bool:
        unjudged: UnjudgedError | None = None
        for test in tests:
            try:
                if not test(event):
                    return False
            except UnjudgedError as error:
                unjudged = unjudged or error
        if unjudged is not None:
            raise unjudged
        return True

    return holds


def _any_of(tests: tuple[Test, ...]) -> Test:
    def holds(event: ActionEvent) -> bool:
        unjudged: UnjudgedError | None = None
        for test in tests:
            try:
                if test(event):
                    return True
            except UnjudgedError as error:
                unjudged = unjudged or error
        if unjudged is not None:
            raise unjudged
        return False

    return holds


def _compile_test(field: str, operator: str, value: Any, assets: Mapping[str, int]) -> Test:
    if field == "amount":
        return _compile_amount(operator, value, assets)
    if field == "actor.tier":
        return _compile_tier(operator, value)
    if field == "actor.depth":
        return _compile_read(field, operator, value, lambda event: event.actor.depth)
    if field in _SETS:
        return _compile_set(field, operator, value, _SETS[field])
    if field in _TEXTS:
        text = _TEXTS[field]

        def read_text(event: ActionEvent) -> object:
            found = text(event)
            return MISSING if found is None else found

        return _compile_read(field, operator, value, read_text)
    if field.startswith(PAYLOAD):
        path = parse_path(field.removeprefix(PAYLOAD))

        def read_payload(event: ActionEvent) -> object:
            found = look_up(event.payload, path)
            return MISSING if found is None else found

        return _compile_read(field, operator, value, read_payload)
    msg = f"{field!r} is not a field that conditions can read"
    raise GrammarError(msg)


def _compile_read(field: str, operator: str, value: Any, read: Callable[[ActionEvent], object]) -> Test:
    """A test of one value, absent being false for every operator but `exists: false`."""
    if operator == "exists":
        wanted = _truth(value)
        return lambda event: (read(event) is not MISSING) is wanted
    judge = compile_value(operator, value)

    def test(event: ActionEvent) -> bool:
        found = read(event)
        if found is MISSING:
            return False
        try:
            return judge(found)
        except UnjudgedValueError as error:
            raise UnjudgedError(AMOUNT_UNRESOLVABLE, f"{field} {error}, so a rule cannot be judged") from None

    return test


def _compile_amount(operator: str, value: Any, assets: Mapping[str, int]) -> Test:
    if operator == "exists":
        wanted = _truth(value)
        return lambda event: (event.amount is not None) is wanted
    if operator not in _ORDERED:
        msg = f"amount has no operator {operator!r}: use eq, ne, gt, gte, lt, lte or exists"
        raise GrammarError(msg)
    try:
        bound = value if isinstance(value, Money) else Money.parse(str(value), assets)
    except MoneyError as error:
        raise GrammarError(str(error)) from None
    compare, minor, currency, exponent = compile_compare(operator), bound.minor, bound.currency, bound.exponent

    def test(event: ActionEvent) -> bool:
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
            return lambda event: (event.actor.tier in tiers) is inside
        if operator in _ORDERED:
            compare, tier = compile_compare(operator), Tier.parse(str(value))
            return lambda event: bool(compare(event.actor.tier, tier))
    except ValueError as error:
        raise GrammarError(str(error)) from None
    msg = f"actor.tier has no operator {operator!r}: use eq, ne, gt, gte, lt, lte, in or not_in"
    raise GrammarError(msg)


def _compile_set(field: str, operator: str, value: Any, read: Callable[[ActionEvent], frozenset[str]]) -> Test:
    if operator == "contains":
        member = str(value)
        return lambda event: member in read(event)
    if operator in {"in", "not_in"}:
        members = frozenset(str(one) for one in _listed(value))
        if operator == "in":
            return lambda event: not members.isdisjoint(read(event))
        return lambda event: bool(read(event)) and members.isdisjoint(read(event))
    if operator == "exists":
        wanted = _truth(value)
        return lambda event: bool(read(event)) is wanted
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
