"""What was really spent, read from the answer: `settle: {from: response.body.total}`."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.paths import parse_source
from afmiddleware.mapping.extract import compile_source, minor_of, refuse
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

ReadSettle = Callable[[Any, Money], int]
"""From the parsed answer and the money that was reserved to minor units. Raises `MappingError`."""

_NO_REQUEST: Final = HttpFacts(method="", path="")
_NO_PARAMS: Final[Mapping[str, object]] = MappingProxyType({})


def compile_settle(entry: Any, kind: str) -> ReadSettle | None:
    """Make the reader of a `settle:` map, whose sources are of `kind`: `response.body`, or a call's `result`.

    What is read is in the currency that was reserved; where `currency` is there too, another one is not read. The
    amount is exact, by the grammar of request amounts. Raises `GrammarError` for an entry that is not well formed.
    """
    if entry is None:
        return None
    place = parse_source(entry.from_, (kind,))
    if place.many:
        msg = f"{place.label} names every place of a list, which is no amount"
        raise GrammarError(msg)
    get, label, unit = compile_source(place), place.label, getattr(entry, "unit", None) or "major"
    named = getattr(entry, "currency", None)
    where = parse_source(named.from_, (kind,)) if named is not None else None
    get_currency = compile_source(where) if where is not None else None

    def read(document: Any, reserved: Money) -> int:
        view = RequestView(_NO_REQUEST, _NO_PARAMS, document)
        if get_currency is not None and get_currency(view) != reserved.currency:
            refuse(label, "is not in the currency that was reserved")
        return minor_of(get(view), unit, reserved.exponent, label)

    return read
