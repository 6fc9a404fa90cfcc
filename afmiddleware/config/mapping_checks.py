"""What is wrong with a route's mapping as a whole: the parts of an amount, and sources that fit nothing.

It looks at the plain tree; what is of the wrong type is passed over, for the schema reports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.conditions import money_fault
from afmiddleware.errors import GrammarError
from afmiddleware.grammar.formulas import Formula, fault_of
from afmiddleware.grammar.paths import KINDS, Source, parse_source, parse_template
from afmiddleware.grammar.quoting import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from afmiddleware.config.tree import Path

FIELDS: Final = ("resource", "amount", "currency", "recipient", "category", "network")
"""The keys of a route whose values are read from the request."""

Fault = tuple["Path", str]


def amount_faults(
    amount: dict[str, Any],
    exponents: Mapping[str, int],
    kinds: tuple[str, ...] = KINDS,
) -> Iterator[Fault]:
    """What is wrong with a map under `amount:`, each with its path inside the map."""
    formula = _formula(amount)
    if formula is None:
        return
    try:
        fault = fault_of(formula, kinds)
    except GrammarError:
        fault = ""
    if fault:
        yield (), fault
    money: list[Fault] = [(("price",), formula.price)]
    money += [(("prices", key), price) for key, price in formula.prices.items()]
    for path, text in money:
        wrong = money_fault(text, exponents) if text.strip() and text.isprintable() else None
        if wrong:
            yield path, wrong
    if formula.source and "[*]" in formula.source:
        yield ("from",), f"{cut(formula.source)} names every place of a list; write sum instead of from"


def names_its_currency(amount: Any) -> bool:
    """Whether an amount says its currency itself: a fixed price, or a price list."""
    return isinstance(amount, str) or (isinstance(amount, dict) and ("price" in amount or "table" in amount))


def sources_in(value: Any, kinds: tuple[str, ...] = KINDS) -> Iterator[tuple[Path, Source]]:
    """The well-formed sources of a field of a mapping, each with its path inside the field."""
    if isinstance(value, str):
        yield from _of_template(value, kinds)
    elif isinstance(value, dict):
        for key in ("from", "sum", "table", "times"):
            texts = value.get(key)
            for text in [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else ():
                source = _source(text, kinds)
                if source is not None:
                    yield (key,), source


def media_fault(route: Mapping[str, Any]) -> str | None:
    """What forbids a route's kinds of body together, as a sentence; `None` when nothing does."""
    refunds = route.get("refunds")
    fields = [*(route.get(name) for name in FIELDS), {"from": refunds.get("of")} if isinstance(refunds, dict) else None]
    kinds = {source.kind for value in fields for _, source in sources_in(value)}
    listed = route.get("media")
    media = {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
    if {"body", "form"} <= kinds:
        return "a route reads JSON or a form, not both; use only body sources, or only form ones"
    if "form" in kinds and "json" in media:
        return "the mapping reads a form, so json cannot be read; remove it, or use body sources"
    if media - {"json"} and ("body" in kinds or "json" in media):
        return "JSON and forms are not accepted on one route; list json alone, or only kinds of form"
    return None


def _formula(amount: Mapping[str, Any]) -> Formula | None:
    total = amount.get("sum", [])
    total = [total] if isinstance(total, str) else total
    prices = amount.get("prices", {})
    texts = {key: amount.get(key, "") for key in ("from", "table", "price", "times")}
    typed = all(isinstance(one, str) for one in texts.values()) and isinstance(total, list) and isinstance(prices, dict)
    if not typed or not all(isinstance(one, str) for one in [*total, *prices.values()]):
        return None
    return Formula(
        source=texts["from"],
        sum=tuple(total),
        table=texts["table"],
        prices=prices,
        price=texts["price"],
        times=texts["times"],
    )


def _source(text: Any, kinds: tuple[str, ...]) -> Source | None:
    try:
        return parse_source(text, kinds) if isinstance(text, str) else None
    except GrammarError:
        return None


def _of_template(text: str, kinds: tuple[str, ...]) -> Iterator[tuple[Path, Source]]:
    try:
        parts = parse_template(text, kinds)
    except GrammarError:
        return
    for part in parts:
        if isinstance(part, Source):
            yield (), part
