"""How an amount is worked out: a value, a sum, a price times a quantity, a price out of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.paths import DOCUMENTS, EVERY, KINDS, Source, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMS: Final = "an amount has one of from, sum, table with prices, or price with times; write one of them"


class Formula(msgspec.Struct, frozen=True, kw_only=True):
    """How an amount is found. Exactly one of `source`, `sum`, `table` and `price` is there.

    `sum` adds up every value of its sources; `times` is the source of a whole number that multiplies the amount, and
    each value of a sum by the one in the same place. `table` is the source of a key of `prices`. `price` and `prices`
    are money such as `0.02 USD`. `unit` (`major` or `minor`) is that of the values in the request.
    """

    source: str = ""
    sum: tuple[str, ...] = ()
    table: str = ""
    prices: Mapping[str, str] = msgspec.field(default_factory=dict)
    price: str = ""
    times: str = ""
    unit: str = "major"


def formula_of(value: Any) -> Formula:
    """The formula in a map under `amount:`. Raises `GrammarError` when it is none of the forms."""
    total = getattr(value, "sum", None) or ()
    formula = Formula(
        source=getattr(value, "from_", None) or "",
        sum=(total,) if isinstance(total, str) else tuple(total),
        table=getattr(value, "table", None) or "",
        prices=getattr(value, "prices", None) or {},
        price=getattr(value, "price", None) or "",
        times=getattr(value, "times", None) or "",
        unit=getattr(value, "unit", None) or "major",
    )
    fault = fault_of(formula)
    if fault:
        raise GrammarError(fault)
    return formula


def fault_of(formula: Formula, kinds: tuple[str, ...] = KINDS) -> str:
    """What is wrong with a formula as a whole, as a sentence; empty when nothing is. Raises `GrammarError`."""
    said = sum(map(bool, (formula.source, formula.sum, formula.table, formula.price)))
    if said != 1 or bool(formula.table) != bool(formula.prices):
        return _FORMS
    if formula.price and not formula.times:
        return "a price needs times, the quantity; a fixed price is written as amount: 0.02 USD"
    if not formula.times:
        return ""
    if len(formula.sum) > 1:
        return "times multiplies the values of one list; write one source under sum"
    base, times = formula.sum[0] if formula.sum else formula.source, parse_source(formula.times, kinds)
    if not formula.sum:
        return f"{times.label} names every place of a list; write sum instead of from" if times.many else ""
    place = parse_source(base, kinds)
    if _list_of(place) != _list_of(times) or not place.many:
        return f"{place.label} and {times.label} are not places of one list, such as items[*].price and items[*].count"
    return ""


def _list_of(place: Source) -> tuple[object, ...]:
    """The kind and the way to the innermost list whose every place is named."""
    if place.kind not in DOCUMENTS or not place.many:
        return (place.kind, None)
    last = max(at for at, step in enumerate(place.path) if step == EVERY)
    return (place.kind, place.path[: last + 1])
