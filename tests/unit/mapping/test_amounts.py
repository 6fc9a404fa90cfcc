"""Amounts that are worked out: sums, quantities, price tables; and that nothing else is made up for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afmiddleware.errors import GrammarError, MappingError
from afmiddleware.grammar.formulas import Formula
from afmiddleware.mapping.amounts import compile_formula
from afmiddleware.mapping.body import parse_json
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.http import HttpFacts

EXPONENTS = {"USD": 2, "EUR": 2, "JPY": 0}


def read(formula: Formula, body: Any = None, *, query: bytes = b"", currency: str = "USD", **params: object) -> str:
    reader, _ = compile_formula(formula, currency, EXPONENTS)
    document = parse_json(body.encode() if isinstance(body, str) else json.dumps(body).encode())
    return str(reader(RequestView(HttpFacts(method="POST", path="/", query=query), params, document)))


ITEMS = Formula(sum=("body.items[*].price",))
BASKET = Formula(sum=("body.items[*].price",), times="body.items[*].count")
NESTED = Formula(sum=("body.orders[*].items[*].price",), times="body.orders[*].items[*].count")
PLANS = Formula(table="path.plan", prices={"basic": "10 USD", "7": "25.50 EUR"})


@pytest.mark.parametrize(
    ("formula", "body", "total"),
    [
        (ITEMS, {"items": [{"price": "1.50"}, {"price": 2}]}, "3.50 USD"),
        (ITEMS, {"items": []}, "0.00 USD"),
        (Formula(sum=("body.items[*].price",), unit="minor"), {"items": [{"price": 150}, {"price": 2}]}, "1.52 USD"),
        (Formula(sum=("body[*]",)), [1, 2, 3], "6.00 USD"),
        (Formula(sum=("body.fare", "body.taxes[*]")), {"fare": 100, "taxes": [1, 2]}, "103.00 USD"),
        (Formula(sum=("body.a[0][*]",)), {"a": [[1, 2], [4]]}, "3.00 USD"),
        (BASKET, {"items": [{"price": "1.50", "count": 3}, {"price": 2, "count": "10"}]}, "24.50 USD"),
        (BASKET, {"items": [{"price": "90071992547409.91", "count": 0}]}, "0.00 USD"),
        (
            NESTED,
            {"orders": [{"items": [{"price": 1, "count": 2}]}, {"items": []}, {"items": [{"price": 5, "count": 1}]}]},
            "7.00 USD",
        ),
        (Formula(source="body.price", times="body.seats"), {"price": "12.50", "seats": 4}, "50.00 USD"),
        (Formula(price="0.02 USD", times="body.tokens"), {"tokens": 1000}, "20.00 USD"),
    ],
)
def test_what_amounts_come_to(formula: Formula, body: Any, total: str) -> None:
    assert read(formula, body) == total


@pytest.mark.parametrize(
    ("formula", "body"),
    [
        (ITEMS, {}),
        (ITEMS, {"items": {"0": {"price": 1}}}),
        (ITEMS, {"items": "12"}),
        (ITEMS, {"items": [{"price": 1}, {}]}),
        (ITEMS, {"items": [{"price": 1}, 7]}),
        (ITEMS, {"items": [{"price": 1}, {"price": -1}]}),
        (ITEMS, {"items": [{"price": 1}, {"price": True}]}),
        (ITEMS, {"items": [{"price": 1}, {"price": None}]}),
        (ITEMS, {"items": [{"price": "90071992547409.91"}, {"price": "0.01"}]}),
        (Formula(sum=("body.fare", "body.tax")), {"fare": 1}),
        (BASKET, {"items": [{"price": 1}]}),
        (BASKET, {"items": [{"price": 1, "count": 1}, {"price": 1, "count": True}]}),
        (BASKET, {"items": [{"price": 1, "count": 1.0}]}),
        (BASKET, {"items": [{"price": 1, "count": "1.5"}]}),
        (BASKET, {"items": [{"price": 1, "count": -1}]}),
        (BASKET, {"items": [{"price": 1, "count": "+1"}]}),
        (BASKET, {"items": [{"price": 1, "count": " 1"}]}),
        (BASKET, {"items": [{"price": 1, "count": "01"}]}),
        (BASKET, {"items": [{"price": 1, "count": [1]}]}),
        (BASKET, {"items": [{"price": "90071992547409.91", "count": 2}]}),
        (Formula(source="body.price", times="body.seats"), {"price": 1}),
        (Formula(source="body.price", times="body.seats"), {"price": 1, "seats": 10**15}),
    ],
)
def test_what_no_amount_is_made_of(formula: Formula, body: Any) -> None:
    with pytest.raises(MappingError) as caught:
        read(formula, body)
    assert caught.value.code == "amount.unresolvable"


def test_a_price_table_knows_its_keys_and_nothing_like_them() -> None:
    assert read(PLANS, {}, plan="basic") == "10.00 USD"
    assert read(PLANS, {}, plan=7) == "25.50 EUR"
    for plan in ("Basic", "basic ", "pro", "", "07"):
        with pytest.raises(MappingError):
            read(PLANS, {}, plan=plan)
    with pytest.raises(MappingError):
        read(PLANS, {})


def test_a_price_table_times_a_quantity() -> None:
    formula = Formula(table="path.plan", prices={"basic": "10 USD"}, times="query.seats")
    assert read(formula, {}, query=b"seats=3", plan="basic") == "30.00 USD"
    with pytest.raises(MappingError):
        read(formula, {}, plan="basic")
    with pytest.raises(MappingError) as caught:
        read(formula, {}, query=b"seats=3&seats=1", plan="basic")
    assert caught.value.code == "request.ambiguous"


def test_every_place_of_a_list_names_one_currency() -> None:
    formula = Formula(sum=("body.items[*].price",))
    items = [{"price": 1, "currency": "EUR"}, {"price": 2, "currency": "EUR"}]
    assert read(formula, {"items": items}, currency="body.items[*].currency") == "3.00 EUR"
    for others in ([*items, {"price": 1, "currency": "USD"}], [*items, {"price": 1}], []):
        with pytest.raises(MappingError):
            read(formula, {"items": others}, currency="body.items[*].currency")


@pytest.mark.parametrize(
    "formula",
    [
        Formula(source="body.items[*].price"),
        Formula(source="body.price", unit="cents"),
        Formula(sum=("body.price",), unit="cents"),
        Formula(source="result.total"),
    ],
)
def test_what_is_no_formula(formula: Formula) -> None:
    with pytest.raises(GrammarError):
        compile_formula(formula, "USD", EXPONENTS)
