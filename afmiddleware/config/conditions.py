"""`when:` of a rule: which fields and operators there are, and every fault of a condition with its place inside it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from afmiddleware.errors import GrammarError, MoneyError
from afmiddleware.grammar.paths import parse_path
from afmiddleware.grammar.quoting import cut, quoted
from afmiddleware.grammar.regexes import compile_regex
from afmiddleware.model.money import Money
from afmiddleware.model.risk import check_risk
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

Fault = tuple[tuple[str | int, ...], str]
"""Where in the condition, and what is wrong there."""


class Known(NamedTuple):
    """What conditions may name: currencies beyond ISO 4217, lists, and those of them that are normalized; schedules."""

    exponents: Mapping[str, int]
    lists: Collection[str]
    normalized: Collection[str]
    schedules: Collection[str]


_COMPARE: Final = ("eq", "ne", "gt", "gte", "lt", "lte")
_CHOOSE: Final = ("eq", "ne", "in", "not_in")
_TEXT: Final = (*_CHOOSE, "contains", "starts_with", "ends_with", "under", "matches", "exists")
_SET: Final = ("contains", "in", "not_in", "exists")
_NUMBER: Final = (*_COMPARE, "in", "not_in", "exists")

OPERATORS: Final[Mapping[str, tuple[str, ...]]] = {
    "amount": (*_COMPARE, "exists"),
    "currency": _TEXT,
    "resource": _TEXT,
    "recipient": _TEXT,
    "network": _TEXT,
    "category": _TEXT,
    "environment": _TEXT,
    "method": _TEXT,
    "route": _TEXT,
    "risk": _NUMBER,
    "time": ("in", "not_in"),
    "actor.id": _TEXT,
    "actor.tenant": _TEXT,
    "actor.tier": (*_COMPARE, "in", "not_in"),
    "actor.roles": _SET,
    "actor.scopes": _SET,
    "actor.depth": _NUMBER,
}
"""The operators of every field but `payload.<path>`, which has them all."""

PAYLOAD: Final = "payload."
PAYLOAD_OPERATORS: Final = ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", *_TEXT[4:])

_ONLY_HERE: Final = frozenset({"amount", "actor.tier", "actor.depth", "risk"})
"""Fields whose values are no texts, so that a named list of texts says nothing of them."""
_NUMBER_TEXT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


def normal_when(value: Any) -> list[dict[str, dict[str, Any]]]:
    """A condition as alternatives, each a map of field to operators; a bare value is `eq`. Raises `ValueError`."""
    for _, sentence in faults(value):
        raise ValueError(sentence)
    alternatives = [value] if isinstance(value, dict) else value
    return [
        {field: test if isinstance(test, dict) else {"eq": test} for field, test in fields.items()}
        for fields in alternatives
    ]


def faults(value: Any, known: Known | None = None) -> Iterator[Fault]:
    """Everything that is wrong with a condition. Names are only looked up when `known` says which exist."""
    if isinstance(value, dict):
        yield from _fields((), value, known)
    elif isinstance(value, list) and value:
        for place, one in enumerate(value):
            if isinstance(one, dict):
                yield from _fields((place,), one, known)
            else:
                yield (place,), "this is not a map; write fields, such as {amount: {gt: 100 USD}}"
    else:
        yield (), "this is not a condition; write a map of fields, or a list of such maps (or)"


def _fields(path: tuple[str | int, ...], fields: dict[str, Any], known: Known | None) -> Iterator[Fault]:
    if not fields:
        yield path, "this condition is empty and would always hold; write a field, or remove it"
    for field, test in fields.items():
        here = (*path, field)
        operators = PAYLOAD_OPERATORS if field.startswith(PAYLOAD) else OPERATORS.get(field)
        if operators is None:
            yield here, _unknown_field(field)
            continue
        if field.startswith(PAYLOAD):
            try:
                parse_path(field.removeprefix(PAYLOAD))
            except GrammarError as error:
                yield here, str(error)
        if isinstance(test, list):
            yield here, "a list stands here; write {in: [...]}"
        elif not isinstance(test, dict):
            yield from _literal(here, field, "eq", test, known, operators)
        elif not test:
            yield here, f"no operator stands here; use {', '.join(operators)}"
        else:
            for operator, literal in test.items():
                yield from _literal((*here, operator), field, operator, literal, known, operators)


def _literal(  # noqa: PLR0913 (where and what)
    path: tuple[str | int, ...],
    field: str,
    operator: str,
    literal: Any,
    known: Known | None,
    operators: tuple[str, ...],
) -> Iterator[Fault]:
    if operator not in operators:
        name = "payload" if field.startswith(PAYLOAD) else field
        yield path, f"{name} has no operator {quoted(operator)}; use {', '.join(operators)}"
        return
    if operator in {"in", "not_in"}:
        if field == "time" and isinstance(literal, str):
            yield from _scalar(path, field, operator, literal, known)
        elif isinstance(literal, str) and literal.startswith("$") and field not in _ONLY_HERE and field != "time":
            yield from _list_name(path, field, literal[1:], known)
        elif not isinstance(literal, list) or not literal:
            yield path, f"{operator} needs a list; write [one, two]"
        else:
            for place, one in enumerate(literal):
                yield from _scalar((*path, place), field, operator, one, known)
    else:
        yield from _scalar(path, field, operator, literal, known)


def _list_name(path: tuple[str | int, ...], field: str, name: str, known: Known | None) -> Iterator[Fault]:
    if known is None:
        return
    if name not in known.lists:
        yield path, f"${cut(name)} names no list; {_near(name, known.lists, 'lists')}"
    elif name in known.normalized and field in {"actor.roles", "actor.scopes"}:
        yield path, f"{field} compares exactly, and the list {name} is normalized; use one that is not"


def _near(name: str, names: Collection[str], where: str) -> str:
    near = get_close_matches(name, names)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"declare it under {where}" + (f", or use {', '.join(sorted(names))}" if names else "")


def _scalar(
    path: tuple[str | int, ...],
    field: str,
    operator: str,
    literal: Any,
    known: Known | None,
) -> Iterator[Fault]:
    if isinstance(literal, str):
        fault = _fault(field, operator, literal, known)
    else:
        fault = f"{operator} needs a single value; write a text or a number"
    if fault:
        yield path, fault


def _fault(field: str, operator: str, literal: str, known: Known | None) -> str | None:
    """What is wrong with a single value, `None` when nothing is."""
    if operator == "exists":
        if literal in {"true", "false"}:
            return None
        return f"{quoted(literal)} is neither true nor false; write one of them"
    if field == "amount":
        return money_fault(literal, known.exponents) if known is not None else None
    if field == "time":
        if known is None or literal in known.schedules:
            return None
        return f"{quoted(literal)} names no schedule; {_near(literal, known.schedules, 'schedules')}"
    if field == "actor.tier":
        return _said_by(Tier.parse, literal)
    if field == "risk":
        return _said_by(check_risk, literal)
    return _said_by(compile_regex, literal) if operator == "matches" else _plain_fault(field, operator, literal)


def _plain_fault(field: str, operator: str, literal: str) -> str | None:
    if (operator in _COMPARE[2:] or field == "actor.depth") and _NUMBER_TEXT.fullmatch(literal) is None:
        return f"{quoted(literal)} is not a number; write digits, such as 100 or 12.50"
    if operator == "under" and not _plain_path(literal):
        return f"{quoted(literal)} is not a plain path; write one without dot segments and doubled slashes"
    if not literal and operator in {"contains", "starts_with", "ends_with"}:
        return f"{operator} an empty text always holds; write a text"
    return None


def _said_by(grammar: Callable[[str], object], literal: str) -> str | None:
    try:
        grammar(literal)
    except ValueError as error:
        return str(error)
    return None


def _plain_path(literal: str) -> bool:
    dots = any(part in {".", ".."} for part in literal.split("/"))
    return bool(literal) and "\\" not in literal and "//" not in literal and not dots


def money_fault(text: str, exponents: Mapping[str, int]) -> str | None:
    """What is wrong with `text` as money, `None` when nothing is. `exponents` are currencies beyond ISO 4217."""
    if " " not in text:
        return f"{quoted(text)} has no currency; write money such as 12.50 USD"
    try:
        Money.parse(text, exponents)
    except MoneyError as error:
        return str(error)
    return None


def _unknown_field(field: str) -> str:
    near = get_close_matches(field, [*OPERATORS, "payload.<path>"])
    hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(OPERATORS)} or payload.<path>"
    return f"{quoted(field)} is not a field of conditions; {hint}"
