"""The fields of an action that a mapping reads from a request: amount, resource, recipient, category, network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.formulas import Formula, formula_of
from afmiddleware.grammar.paths import KINDS, Source
from afmiddleware.mapping.amounts import compile_formula
from afmiddleware.mapping.extract import ReadMoney, ReadText, compile_text
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.mapping.view import RequestView

Extractor = Callable[["RequestView"], Any]
"""A function of the service, sync or async: the value of a field, or for `amount` also a list of action events."""

ANYTHING: Final = Source("request")
"""What a callable may read."""
_TEXT_FIELDS: Final = ("resource", "recipient", "category", "network")


class Fields(msgspec.Struct, frozen=True, gc=False):
    """What the extractors of a binding found. `None` is a field the binding does not have."""

    amount: Money | None = None
    resource: str | None = None
    recipient: str | None = None
    category: str | None = None
    network: str | None = None
    refunds: str | None = None


def compile_fields(
    entry: Any,
    currency: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...] = KINDS,
) -> tuple[Callable[[RequestView], Fields], list[Source]]:
    """Make the reader of an entry's fields, and name the sources it reads, which are of `kinds`.

    `currency` is the file's. Fields that a function is asked for (`extractors`)
    are left out. The reader raises `MappingError` for values that are missing or not well formed. Raises
    `GrammarError` and `MoneyError` for an entry that is not.
    """
    sources: list[Source] = []
    amount, used = _amount_reader(entry, currency, exponents, kinds)
    sources += used
    texts: list[ReadText | None] = []
    for field in _TEXT_FIELDS:
        template = _template(getattr(entry, field, None))
        if template is None:
            texts.append(None)
            continue
        read_text, used = compile_text(template, kinds)
        sources += used
        texts.append(read_text)
    of = getattr(getattr(entry, "refunds", None), "of", None)
    if of is None:
        texts.append(None)
    else:
        read_text, used = compile_text(f"{{{of}}}", kinds)
        sources += used
        texts.append(read_text)
    return _reader(amount, texts), sources


def extractors(entry: Any) -> tuple[tuple[str, Extractor], ...]:
    """The fields of an entry that a function of the service is asked for, each with the function."""
    found = ((field, getattr(entry, field, None)) for field in ("amount", *_TEXT_FIELDS))
    return tuple((field, value) for field, value in found if callable(value))


def no_fields(_view: RequestView) -> Fields:
    """The reader of an entry that reads nothing."""
    return _NO_FIELDS


_NO_FIELDS: Final = Fields()


def _reader(amount: ReadMoney | None, texts: Sequence[ReadText | None]) -> Callable[[RequestView], Fields]:
    resource, recipient, category, network, refunds = texts
    if amount is None and not any(texts):
        return no_fields

    def read(view: RequestView) -> Fields:
        return Fields(
            amount(view) if amount else None,
            resource(view) if resource else None,
            recipient(view) if recipient else None,
            category(view) if category else None,
            network(view) if network else None,
            refunds(view) if refunds else None,
        )

    return read


def _amount_reader(
    entry: Any,
    default: str,
    exponents: Mapping[str, int],
    kinds: tuple[str, ...],
) -> tuple[ReadMoney | None, tuple[Source, ...]]:
    amount = getattr(entry, "amount", None)
    if amount is None or callable(amount):
        return None, ()
    if isinstance(amount, (str, Money)):
        price = amount if isinstance(amount, Money) else Money.parse(amount, exponents)
        return (lambda _view: price), ()
    formula = amount if isinstance(amount, Formula) else formula_of(amount)
    code = _source(getattr(entry, "currency", None)) or default
    if not code and not formula.price and not formula.table:
        msg = "an amount needs a currency: give the route or the file one"
        raise GrammarError(msg)
    return compile_formula(formula, code, exponents, kinds)


def _template(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return None if callable(value) else f"{{{_source(value)}}}"


def _source(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    found = getattr(value, "from_", None)
    return None if found is None else str(found)
