"""Amounts that are worked out of several values: a sum, a price times a quantity, a price out of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.amounts import MAX_MINOR
from afmiddleware.grammar.paths import KINDS, MISSING, Source, look_up_every, parse_source
from afmiddleware.mapping.extract import (
    ReadMoney,
    compile_amount,
    compile_currency,
    compile_source,
    minor_of,
    refuse,
    text_of,
)
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.grammar.formulas import Formula
    from afmiddleware.mapping.extract import ReadCurrency
    from afmiddleware.mapping.view import RequestView

_QUANTITY = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)


def compile_formula(
    formula: Formula,
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...] = KINDS,
) -> tuple[ReadMoney, tuple[Source, ...]]:
    """Make the reader of an amount, and name the sources it reads.

    `currency` is a code or a source of one, and not used where prices name their own. The reader raises `MappingError`
    (`amount.unresolvable`) for whatever `compile_amount` refuses, a list that is not there, a key that has no price, a
    quantity that is not a whole number, or a result beyond the largest exact amount. An empty list sums up to zero.
    Raises `GrammarError` and `MoneyError` for a formula that is not well formed.
    """
    if formula.source and not formula.times:
        return compile_amount(formula.source, formula.unit, currency, exponents, kinds)
    if formula.sum:
        return _compile_sum(formula, currency, exponents, kinds)
    read, used = _base(formula, currency, exponents, kinds)
    if not formula.times:
        return read, used
    place = parse_source(formula.times, kinds)
    get, label = compile_source(place), place.label

    def multiplied(view: RequestView) -> Money:
        money = read(view)
        return msgspec.structs.replace(money, minor=_bounded(money.minor * _quantity(get(view), label), label))

    return multiplied, (*used, place)


def _base(
    formula: Formula,
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...],
) -> tuple[ReadMoney, tuple[Source, ...]]:
    if formula.source:
        return compile_amount(formula.source, formula.unit, currency, exponents, kinds)
    if formula.price:
        price = Money.parse(formula.price, exponents)
        return (lambda _view: price), ()
    place = parse_source(formula.table, kinds)
    get, label = compile_source(place), place.label
    prices = {key: Money.parse(price, exponents) for key, price in formula.prices.items()}

    def looked_up(view: RequestView) -> Money:
        price = prices.get(text_of(get(view), label))
        return price if price is not None else refuse(label, "is nothing that has a price")

    return looked_up, (place,)


def _compile_sum(
    formula: Formula,
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...],
) -> tuple[ReadMoney, tuple[Source, ...]]:
    if formula.unit not in {"major", "minor"}:
        msg = f"the unit of an amount is major or minor, not {formula.unit[:20]!r}"
        raise GrammarError(msg)
    places = [parse_source(text, kinds) for text in formula.sum]
    readers = [(_values(place), place.label) for place in places]
    read_code, used = compile_currency(currency, exponents, kinds)
    times = parse_source(formula.times, kinds) if formula.times else None
    quantities = (_values(times), times.label) if times is not None else None
    sources = (*places, *used) if times is None else (*places, *used, times)
    return _adder(readers, quantities, read_code, formula.unit), sources


def _adder(
    readers: Sequence[tuple[Callable[[RequestView], list[Any]], str]],
    quantities: tuple[Callable[[RequestView], list[Any]], str] | None,
    read_code: ReadCurrency,
    unit: str,
) -> ReadMoney:
    def read(view: RequestView) -> Money:
        code, exponent = read_code(view)
        total = 0
        for values, label in readers:
            found = [minor_of(value, unit, exponent, label) for value in values(view)]
            if quantities is not None:
                counts = [_quantity(count, quantities[1]) for count in quantities[0](view)]
                # Places of the same list, so there are as many of both.
                found = [minor * count for minor, count in zip(found, counts, strict=True)]
            total = _bounded(total + sum(found), label)
        return Money(total, code, exponent)

    return read


def _values(place: Source) -> Callable[[RequestView], list[Any]]:
    label, path = place.label, place.path
    if not place.many:
        get = compile_source(place)
        return lambda view: [get(view)]

    def read(view: RequestView) -> list[Any]:
        found = look_up_every(view.document, path)
        return found if found is not None else refuse(label, "is missing in one place, or is not in a list")

    return read


def _quantity(value: object, label: str) -> int:
    text = str(value) if type(value) is int or type(value) is str else ""
    if _QUANTITY.fullmatch(text) is None:
        refuse(label, "is missing" if value is MISSING else "is not a whole number")
    return int(text)


def _bounded(minor: int, label: str) -> int:
    return minor if minor <= MAX_MINOR else refuse(label, "makes the amount too large to be exact")
