"""Extractors: from a request to the values the policy speaks of. Compiled once, at load time, to closures."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import UUID

from afmiddleware.errors import GrammarError, MappingError
from afmiddleware.grammar.amounts import MAX_MINOR, minor_from_text, to_minor
from afmiddleware.grammar.paths import (
    DOCUMENTS,
    KINDS,
    MISSING,
    Source,
    look_up,
    look_up_every,
    parse_source,
    parse_template,
)
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE
from afmiddleware.model.money import Money
from afmiddleware.model.number import Number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.grammar.paths import Path
    from afmiddleware.mapping.view import RequestView

Get = Callable[["RequestView"], object]
ReadText = Callable[["RequestView"], str]
ReadMoney = Callable[["RequestView"], Money]
ReadCurrency = Callable[["RequestView"], tuple[str, int]]

MAX_TEXT: Final = 512
"""The longest resource, recipient, category or network, in characters."""

_EXACT_DIGITS: Final = 15
"""A double holds every decimal number of so many digits (IEEE 754 binary64, DBL_DIG)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def compile_source(source: Source) -> Get:
    """Make the reader of one place. It gives `MISSING` where nothing is.

    Of a source that names every place of a list it gives the value that all of them hold, and raises `MappingError`
    (`amount.unresolvable`) when they differ: a recipient that is not the same for all items is no one's recipient.
    """
    kind, name, path = source.kind, source.name, source.path
    if kind in DOCUMENTS:
        if source.many:
            return _same(path, source.label)
        if len(path) == 1:
            key = path[0]

            def member(view: RequestView) -> object:
                document = view.document
                if type(document) is dict:
                    return document.get(key, MISSING)
                return look_up(document, path)

            return member
        return lambda view: look_up(view.document, path)
    if kind == "path":
        return lambda view: view.params.get(name, MISSING)
    if kind == "header":
        return lambda view: _or_missing(view.header(name))
    if kind == "form":
        return lambda view: _or_missing(view.field(name))
    if kind == "cookie":
        return lambda view: _or_missing(view.cookie(name))
    return lambda view: _or_missing(view.query(name))


def _same(path: Path, label: str) -> Get:
    def read(view: RequestView) -> object:
        found = look_up_every(view.document, path)
        if not found:
            return MISSING
        first = found[0]
        if any(type(one) is not type(first) or one != first for one in found):
            refuse(label, "is not the same in every place")
        return first

    return read


def _as_written(source: Source) -> Get:
    """`compile_source`, refusing a text that the handler will read as another one: `007` where it declares a number."""
    get = compile_source(source)

    def read(view: RequestView) -> object:
        value = get(view)
        if view.spelled is not None and type(value) is str and not view.spelled(source, value):
            refuse(source.label, "is written in another way than the value that the handler makes of it")
        return value

    return get if source.kind == "path" else read


def compile_text(template: str, kinds: tuple[str, ...] = KINDS) -> tuple[ReadText, tuple[Source, ...]]:
    """Make the reader of a template such as `flight:{body.flight_id}`, and name the sources it reads.

    Values are texts, whole numbers or UUIDs. The reader raises `MappingError` (`amount.unresolvable`) for an absent or
    empty value, another type, a control character, more than 512 characters in all, or a value that holds the text
    which separates it from the next one. Raises `GrammarError` for a template that is not well formed.
    """
    parts = parse_template(template, kinds)
    sources = tuple(part for part in parts if isinstance(part, Source))
    if not sources:
        fixed = "".join(part for part in parts if isinstance(part, str))
        if len(fixed) > MAX_TEXT or _CONTROL.search(fixed) is not None:
            msg = f"{template[:60]!r} holds a control character or more than {MAX_TEXT} characters"
            raise GrammarError(msg)
        return lambda _view: fixed, ()
    prefix = parts[0] if isinstance(parts[0], str) else ""
    pieces: list[tuple[Get, str, str, bool]] = []
    for place, part in enumerate(parts):
        if isinstance(part, Source):
            following = parts[place + 1] if place + 1 < len(parts) else ""
            literal = following if isinstance(following, str) else ""
            pieces.append((_as_written(part), part.label, literal, part is not sources[-1]))
    if len(pieces) == 1:
        get, label, suffix, _ = pieces[0]

        def read_one(view: RequestView) -> str:
            text = prefix + text_of(get(view), label) + suffix
            return text if len(text) <= MAX_TEXT else refuse(label, f"is longer than {MAX_TEXT} characters")

        return read_one, sources
    steps = tuple(pieces)

    def read(view: RequestView) -> str:
        text, label = prefix, ""
        for get, label, literal, separates in steps:
            value = text_of(get(view), label)
            if separates and literal in value:
                refuse(label, f"holds {literal!r}, which separates it from the next value")
            text += value + literal
        return text if len(text) <= MAX_TEXT else refuse(label, f"is longer than {MAX_TEXT} characters")

    return read, sources


def compile_amount(
    source: str,
    unit: str,
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...] = KINDS,
) -> tuple[ReadMoney, tuple[Source, ...]]:
    """Make the reader of an amount, and name the sources it reads.

    `unit` is `major` or `minor`, `currency` a code of `exponents` or a source of one. JSON numbers and ASCII texts by
    the grammar of `grammar.amounts` are read; a bool, a sign, an exponent, more digits than the currency has, or a
    number that a double would change is not. The reader raises `MappingError` (`amount.unresolvable`). Raises
    `GrammarError` for a source that is not well formed.
    """
    if unit not in {"major", "minor"}:
        msg = f"the unit of an amount is major or minor, not {unit[:20]!r}"
        raise GrammarError(msg)
    place = parse_source(source, kinds)
    if place.many:
        msg = f"{place.label} names every place of a list, which is no amount; write sum instead of from"
        raise GrammarError(msg)
    get, label = compile_source(place), place.label
    known = exponents.get(currency)
    if known is not None:
        exponent = known

        def read(view: RequestView) -> Money:
            return Money(minor_of(get(view), unit, exponent, label), currency, exponent)

        return read, (place,)
    read_code, used = compile_currency(currency, exponents, kinds)

    def read_both(view: RequestView) -> Money:
        code, digits = read_code(view)
        return Money(minor_of(get(view), unit, digits, label), code, digits)

    return read_both, (place, *used)


def compile_currency(
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...] = KINDS,
) -> tuple[ReadCurrency, tuple[Source, ...]]:
    """Make the reader of a currency: its code, and how many digits its minor unit has.

    `currency` is a code of `exponents` or a source of one. The reader raises `MappingError` (`amount.unresolvable`).
    """
    known = exponents.get(currency)
    if known is not None:
        fixed = (currency, known)
        return (lambda _view: fixed), ()
    where = parse_source(currency, kinds)
    get, label = compile_source(where), where.label

    def read(view: RequestView) -> tuple[str, int]:
        code = get(view)
        digits = exponents.get(code) if type(code) is str else None
        if digits is None or type(code) is not str:
            problem = "is missing" if code is MISSING else "is not the code of a currency this service knows"
            refuse(label, problem)
        return code, digits

    return read, (where,)


def minor_of(value: object, unit: str, exponent: int, label: str) -> int:
    """One amount in minor units. Raises `MappingError` (`amount.unresolvable`), never showing the value."""
    kind = type(value)
    if kind is int:
        # A plain int: bool has a type of its own. Beyond 2^53 - 1 other readers round.
        if not 0 <= value <= MAX_MINOR:  # type: ignore[operator]
            refuse(label, "is negative or too large for an exact amount")
        text = str(value)
    elif kind is str or kind is Number:
        text = str(value)
    else:
        refuse(label, "is missing" if value is MISSING else "is not a number or a text")
    try:
        minor = minor_from_text(text) if unit == "minor" else to_minor(text, exponent)
    except GrammarError:
        # The grammar's own message quotes the value.
        refuse(label, _expected(unit, exponent))
    # The handler holds a double here: 999999999999999.99 is another amount there.
    if kind is Number and len(text) > _EXACT_DIGITS and Decimal(text) != Decimal(repr(float(text))):
        refuse(label, "has more digits than a number can hold exactly; send it as a text")
    return minor


def _expected(unit: str, exponent: int) -> str:
    if unit == "minor":
        return "is not a whole number of minor units"
    if exponent == 0:
        return "is not an amount: digits, without a point"
    return f"is not an amount: digits, then optionally a point and at most {exponent} digits"


def text_of(value: object, label: str) -> str:
    """One text: a text, a whole number or a UUID. Raises `MappingError` (`amount.unresolvable`)."""
    kind = type(value)
    if kind is str:
        text = str(value)
    elif kind is int:
        if not -MAX_MINOR <= value <= MAX_MINOR:  # type: ignore[operator]
            refuse(label, "is too large for an exact number")
        return str(value)
    elif kind is UUID:
        return str(value)
    else:
        refuse(label, "is missing" if value is MISSING else "is not a text or a whole number")
    if not text:
        refuse(label, "is empty")
    if not text.isprintable() and _CONTROL.search(text) is not None:
        refuse(label, "holds a control character")
    return text


def _or_missing(value: str | None) -> object:
    return MISSING if value is None else value


def refuse(label: str, problem: str) -> NoReturn:
    """Raise `MappingError` (`amount.unresolvable`) about the source called `label`."""
    raise MappingError(AMOUNT_UNRESOLVABLE, f"{label} {problem}")
