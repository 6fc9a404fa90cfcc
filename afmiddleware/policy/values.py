"""Operators on single values: what `eq`, `in`, `gt`, `contains`, `under` and the others mean for JSON values.

Literals of the policy file are text. A text compares exactly with a text; a number compares by its exact decimal
value; `true` and `false` stand for the booleans. Nothing is trimmed, folded or printed before it is compared.
"""

from __future__ import annotations

import operator as op
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.lists import Words, normal
from afmiddleware.grammar.quoting import quoted
from afmiddleware.grammar.regexes import compile_regex
from afmiddleware.model.number import Number

Judge = Callable[[object], bool]
"""A compiled operator. Raises `UnjudgedValueError` for a value it cannot be asked about."""

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": op.eq,
    "ne": op.ne,
    "gt": op.gt,
    "gte": op.ge,
    "lt": op.lt,
    "lte": op.le,
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_NUMBER: Final = 4300


class UnjudgedValueError(Exception):
    """A value an operator cannot be asked about. The message names the kind that is needed, never the value."""


def compile_compare(operator: str) -> Callable[[Any, Any], bool]:
    """The comparison behind `eq ne gt gte lt lte`. Raises `GrammarError` for another operator."""
    try:
        return _COMPARE[operator]
    except KeyError:
        msg = f"{operator!r} is not a comparison"
        raise GrammarError(msg) from None


def compile_value(operator: str, literal: Any) -> Judge:
    """Compile an operator with its literal, a text or (for `in` and `not_in`) a list of texts.

    Raises `GrammarError` for an unknown operator or a literal the operator cannot take.
    """
    if operator == "eq":
        return _equals(_word(operator, literal))
    if operator == "ne":
        equals = _equals(_word(operator, literal))
        return lambda value: not equals(value)
    if operator in {"in", "not_in"}:
        if not isinstance(literal, (list, tuple, set, frozenset)):
            msg = f"{operator} needs a list"
            raise GrammarError(msg)
        inside = _one_of(frozenset(_word(operator, one) for one in literal))
        return inside if operator == "in" else lambda value: not inside(value)
    if operator in _COMPARE:
        return _compares(_COMPARE[operator], _word(operator, literal))
    word = _word(operator, literal)
    if operator == "contains":
        return lambda value: _contains(value, word)
    if operator == "starts_with":
        return lambda value: _plain_text(value).startswith(word)
    if operator == "ends_with":
        return lambda value: _plain_text(value).endswith(word)
    if operator == "under":
        return _under(word)
    if operator == "matches":
        return _matches(word)
    msg = (
        f"{operator!r} is not an operator: use eq, ne, in, not_in, gt, gte, lt, lte, contains, starts_with, ends_with, "
        "under, matches or exists"
    )
    raise GrammarError(msg)


def compile_listed(operator: str, words: Words) -> Judge:
    """Compile `in` or `not_in` a named list."""
    entries, normalize = words
    if not normalize:
        inside = _one_of(entries)
        return inside if operator == "in" else lambda value: not inside(value)
    wanted = operator == "in"

    def judge(value: object) -> bool:
        word = normal(_plain_text(value), normalize)
        if word is None:
            _need("is not an address of the kind the list has")
        return (word in entries) is wanted

    return judge


def _matches(pattern: str) -> Judge:
    matches = compile_regex(pattern)

    def judge(value: object) -> bool:
        try:
            return matches(_plain_text(value))
        except ValueError:
            _need("is too long for a regular expression, or not Unicode")

    return judge


def _equals(word: str) -> Judge:
    return _one_of(frozenset({word}))


def _one_of(words: frozenset[str]) -> Judge:
    numbers = frozenset(number for number in map(_literal_number, words) if number is not None)

    def judge(value: object) -> bool:
        if _is_text(value):
            return value in words
        if isinstance(value, bool):
            return ("true" if value else "false") in words
        return _number(value) in numbers

    return judge


def _compares(compare: Callable[[Any, Any], bool], word: str) -> Judge:
    bound = _literal_number(word)
    if bound is None:
        msg = f"{quoted(word)} is not a number"
        raise GrammarError(msg)

    def judge(value: object) -> bool:
        if _is_text(value):
            # Lenient handlers take "5000" for 5000, so a text that is a number is compared as one.
            number = _literal_number(str(value))
            if number is None:
                _need("is not a number")
            return compare(number, bound)
        return compare(_number(value), bound)

    return judge


def _contains(value: object, word: str) -> bool:
    """Whether a text holds `word`, or any text inside a list or an object does."""
    if _is_text(value):
        return word in str(value)
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(_contains(member, word) for member in inner)


def _under(word: str) -> Judge:
    base = word.rstrip("/")
    if "\\" in word or any(segment in {".", ".."} for segment in word.split("/")) or "//" in word:
        msg = f"{quoted(word)} is not a plain path"
        raise GrammarError(msg)
    below = base + "/"

    def judge(value: object) -> bool:
        path = _plain_text(value)
        if "\\" in path or "\0" in path or "//" in path or any(part in {".", ".."} for part in path.split("/")):
            _need("is not a path without dot segments, doubled slashes and backslashes")
        return path == base or path.startswith(below)

    return judge


def _is_text(value: object) -> bool:
    # A number of the body is a str that holds its token; it is compared as a number.
    return isinstance(value, str) and not isinstance(value, Number)


def _plain_text(value: object) -> str:
    if not _is_text(value):
        _need("is not a text")
    return str(value)


def _number(value: object) -> Decimal:
    if isinstance(value, bool):
        _need("is not a number")
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, Number):
        number = _literal_number(value)
    elif isinstance(value, float):
        number = _literal_number(repr(value))
    elif isinstance(value, Decimal) and value.is_finite():
        return value
    else:
        number = None
    if number is None:
        _need("is not a number or a text")
    return number


def _literal_number(text: str) -> Decimal | None:
    if len(text) > _MAX_NUMBER or _NUMBER.fullmatch(text) is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _word(operator: str, literal: Any) -> str:
    if isinstance(literal, bool):
        return "true" if literal else "false"
    if isinstance(literal, (str, int, Decimal)):
        return str(literal)
    msg = f"{operator} needs a text or a number"
    raise GrammarError(msg)


def _need(problem: str) -> NoReturn:
    raise UnjudgedValueError(problem)
