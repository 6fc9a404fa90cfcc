"""Operators on single values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from afmiddleware.errors import GrammarError
from afmiddleware.model.number import Number
from afmiddleware.policy.values import UnjudgedValueError, compile_value

DOUBT = None

VALUES: list[tuple[str, Any, Any, bool | None]] = [
    # operator, literal, value, holds (None: cannot be judged)
    ("eq", "acme", "acme", True),
    ("eq", "acme", "Acme", False),
    ("eq", "acme", "acme ", False),
    ("eq", "5", 5, True),
    ("eq", "5", "5", True),
    ("eq", "5.0", "5", False),
    ("eq", "5.0", 5, True),
    ("eq", "5", Number("5.00"), True),
    ("eq", "500", Number("5e2"), True),
    ("eq", "0.3", Number("0.30000000000000001"), False),
    ("eq", "0.1", 0.1, True),
    ("eq", "1.5", Decimal("1.50"), True),
    ("eq", "true", True, True),
    ("eq", "1", True, False),
    ("eq", "True", True, False),
    ("eq", "x", 5, False),
    ("eq", "x", ["x"], DOUBT),
    ("eq", "x", {}, DOUBT),
    ("eq", "5", float("nan"), DOUBT),
    ("eq", "5", Decimal("NaN"), DOUBT),
    ("eq", "5", Number("1e99999999999999999999"), DOUBT),
    ("gt", "5", "9" * 4300, True),
    ("gt", "5", "9" * 4301, DOUBT),
    ("eq", 5, 5, True),
    ("eq", True, True, True),
    ("ne", "acme", "evil", True),
    ("ne", "5", Number("5.0"), False),
    ("ne", "x", [], DOUBT),
    ("in", ["a", "b"], "b", True),
    ("in", ["a", "b"], "c", False),
    ("in", ["1", "2.50"], Number("2.5"), True),
    ("in", ["a"], ["a"], DOUBT),
    ("in", [], "a", False),
    ("not_in", ["a"], "b", True),
    ("not_in", ["a"], "a", False),
    ("not_in", ["a"], ["b"], DOUBT),
    ("gt", "5", 6, True),
    ("gt", "5", 5, False),
    ("gt", "5", Number("5.0000000000000000001"), True),
    ("gt", "5", "6", True),
    ("gt", "5", "10", True),
    ("gt", "5", " 6", DOUBT),
    ("gt", "5", "6_0", DOUBT),
    ("gt", "5", "٦", DOUBT),
    ("gt", "5", True, DOUBT),
    ("gt", "5", [6], DOUBT),
    ("gt", "5", float("inf"), DOUBT),
    ("gt", "5", 10**4000, True),
    ("gt", "5", Number("1e999999999"), True),
    ("gte", "5", Number("5.0"), True),
    ("lt", "-1.5", -2, True),
    ("lte", "1e3", 1000, True),
    ("lte", "5", Number("-0.0"), True),
    ("contains", "rm -rf", "sudo rm -rf /", True),
    ("contains", "rm -rf", "rm  -rf", False),
    ("contains", "rm", ["ls", {"then": ["rm x"]}], True),
    ("contains", "rm", {"rm": "ls"}, False),
    ("contains", "5", 5, False),
    ("contains", "5", Number("5.0"), False),
    ("contains", ":", {"a": 1}, False),
    ("starts_with", "a", "abc", True),
    ("starts_with", "a", "bca", False),
    ("starts_with", "5", Number("5.0"), DOUBT),
    ("starts_with", "a", ["abc"], DOUBT),
    ("ends_with", "c", "abc", True),
    ("ends_with", "c", 5, DOUBT),
    ("under", "/srv/data", "/srv/data/x", True),
    ("under", "/srv/data", "/srv/data", True),
    ("under", "/srv/data/", "/srv/data/x/", True),
    ("under", "/srv/data", "/srv/database", False),
    ("under", "/srv/data", "srv/data/x", False),
    ("under", "/", "/anything", True),
    ("under", "/srv/data", "/srv/data/../x", DOUBT),
    ("under", "/srv/data", "/srv/./data", DOUBT),
    ("under", "/srv/data", "/srv//data/x", DOUBT),
    ("under", "/srv/data", "/srv/data\\..\\x", DOUBT),
    ("under", "/srv/data", "/srv/data/\0", DOUBT),
    ("under", "/srv/data", ["/srv/data"], DOUBT),
]


@pytest.mark.parametrize(
    ("operator", "literal", "value", "holds"), VALUES, ids=[f"{o}-{v!r:.30}" for o, _, v, _ in VALUES]
)
def test_operators(operator: str, literal: Any, value: Any, holds: bool | None) -> None:
    judge = compile_value(operator, literal)
    if holds is None:
        with pytest.raises(UnjudgedValueError):
            judge(value)
    else:
        assert judge(value) is holds


@pytest.mark.parametrize(
    ("operator", "literal"),
    [
        ("like", "x"),
        ("gt", "many"),
        ("gt", "NaN"),
        ("in", "x"),
        ("eq", ["x"]),
        ("eq", None),
        ("under", "/a//b"),
        ("matches", "a("),
    ],
)
def test_literals_that_an_operator_cannot_take(operator: str, literal: Any) -> None:
    with pytest.raises(GrammarError):
        compile_value(operator, literal)
