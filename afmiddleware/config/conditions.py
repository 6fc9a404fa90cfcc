"""`when:` of a rule: which fields and operators there are, and every fault of a condition with its place inside it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.later import NOT_SUPPORTED
from afmiddleware.errors import GrammarError, MoneyError
from afmiddleware.grammar.paths import parse_path
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Fault = tuple[tuple[str | int, ...], str]
"""Where in the condition, and what is wrong there."""

_COMPARE: Final = ("eq", "ne", "gt", "gte", "lt", "lte")
_CHOOSE: Final = ("eq", "ne", "in", "not_in")
_TEXT: Final = (*_CHOOSE, "contains", "starts_with", "ends_with", "under", "exists")
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
    "actor.id": _TEXT,
    "actor.tier": (*_COMPARE, "in", "not_in"),
    "actor.scopes": ("contains", "in", "not_in", "exists"),
    "actor.depth": _NUMBER,
}
"""The operators of every field but `payload.<path>`, which has them all."""

PAYLOAD: Final = "payload."
PAYLOAD_OPERATORS: Final = ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", *_TEXT[4:])

_FIELDS_LATER: Final = ("time", "risk", "actor.tenant", "actor.roles")
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


def faults(value: Any, exponents: Mapping[str, int] | None = None) -> Iterator[Fault]:
    """Everything that is wrong with a condition. Currencies are only looked up when `exponents` says which exist."""
    if isinstance(value, dict):
        yield from _fields((), value, exponents)
    elif isinstance(value, list) and value:
        for place, one in enumerate(value):
            if isinstance(one, dict):
                yield from _fields((place,), one, exponents)
            else:
                yield (place,), "this is not a map; write fields, such as {amount: {gt: 100 USD}}"
    else:
        yield (), "this is not a condition; write a map of fields, or a list of such maps (or)"


def _fields(
    path: tuple[str | int, ...], fields: dict[str, Any], exponents: Mapping[str, int] | None
) -> Iterator[Fault]:
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
            yield from _literal(here, field, "eq", test, exponents, operators)
        elif not test:
            yield here, f"no operator stands here; use {', '.join(operators)}"
        else:
            for operator, literal in test.items():
                yield from _literal((*here, operator), field, operator, literal, exponents, operators)


def _literal(  # noqa: PLR0913 (where and what)
    path: tuple[str | int, ...],
    field: str,
    operator: str,
    literal: Any,
    exponents: Mapping[str, int] | None,
    operators: tuple[str, ...],
) -> Iterator[Fault]:
    if operator == "matches":
        yield path, f"the operator matches {NOT_SUPPORTED}; remove it"
        return
    if operator not in operators:
        name = "payload" if field.startswith(PAYLOAD) else field
        yield path, f"{name} has no operator {operator[:40]!r}; use {', '.join(operators)}"
        return
    if operator in {"in", "not_in"}:
        if isinstance(literal, str) and literal.startswith("$"):
            yield path, f"a list by its name {NOT_SUPPORTED}; write the values"
        elif not isinstance(literal, list) or not literal:
            yield path, f"{operator} needs a list; write [one, two]"
        else:
            for place, one in enumerate(literal):
                yield from _scalar((*path, place), field, operator, one, exponents)
    else:
        yield from _scalar(path, field, operator, literal, exponents)


def _scalar(
    path: tuple[str | int, ...],
    field: str,
    operator: str,
    literal: Any,
    exponents: Mapping[str, int] | None,
) -> Iterator[Fault]:
    if not isinstance(literal, str):
        yield path, f"{operator} needs a single value; write a text or a number"
    elif operator == "exists":
        if literal not in {"true", "false"}:
            yield path, f"{literal[:40]!r} is neither true nor false; write one of them"
    elif field == "amount":
        if exponents is not None and (fault := money_fault(literal, exponents)):
            yield path, fault
    elif field == "actor.tier":
        try:
            Tier.parse(literal)
        except ValueError as error:
            yield path, str(error)
    elif (operator in _COMPARE[2:] or field == "actor.depth") and _NUMBER_TEXT.fullmatch(literal) is None:
        yield path, f"{literal[:40]!r} is not a number; write digits, such as 100 or 12.50"
    elif operator == "under" and not _plain_path(literal):
        yield path, f"{literal[:60]!r} is not a plain path; write one without dot segments and doubled slashes"
    elif not literal and operator in {"contains", "starts_with", "ends_with"}:
        yield path, f"{operator} an empty text always holds; write a text"


def _plain_path(literal: str) -> bool:
    dots = any(part in {".", ".."} for part in literal.split("/"))
    return bool(literal) and "\\" not in literal and "//" not in literal and not dots


def money_fault(text: str, exponents: Mapping[str, int]) -> str:
    """What is wrong with `text` as money, empty when nothing is. `exponents` are currencies beyond ISO 4217."""
    if " " not in text:
        return f"{text[:40]!r} has no currency; write money such as 12.50 USD"
    try:
        Money.parse(text, exponents)
    except MoneyError as error:
        return str(error)
    return ""


def _unknown_field(field: str) -> str:
    if field in _FIELDS_LATER:
        return f"the field {field} {NOT_SUPPORTED}; remove it"
    near = get_close_matches(field, [*OPERATORS, "payload.<path>"], 1)
    hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(OPERATORS)} or payload.<path>"
    return f"{field[:60]!r} is not a field of conditions; {hint}"
