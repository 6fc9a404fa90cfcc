"""Templates of every framework have one normal form. The cases are templates.yaml."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.grammar.templates import normal, parameters, plain

CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "templates.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("spelled", "expected"), CASES["normal"])
def test_normal(spelled: str, expected: str) -> None:
    assert normal(spelled) == expected
    assert normal(expected) == expected


@pytest.mark.parametrize("pattern", CASES["alone"])
def test_an_expression_without_another_spelling(pattern: str) -> None:
    assert normal(pattern) == pattern


@pytest.mark.parametrize(("template", "expected"), CASES["parameters"])
def test_parameters(template: str, expected: list[str]) -> None:
    assert parameters(template) == frozenset(expected)


@pytest.mark.parametrize("templates", CASES["same"])
def test_same(templates: list[str]) -> None:
    assert len({plain(normal(one)) for one in templates}) == 1


@pytest.mark.parametrize("templates", CASES["different"])
def test_different(templates: list[str]) -> None:
    for one, other in combinations(templates, 2):
        assert normal(one) != normal(other)


@pytest.mark.parametrize(
    ("template", "expected"),
    [("/x/{a:int}/{b}", "/x/{a}/{b}"), ("/x/{a:path}", "/x/{a:path}"), ("/x", "/x")],
)
def test_plain(template: str, expected: str) -> None:
    assert plain(template) == expected


@given(st.text(alphabet="/ab{}<>:()?P[]^$\\.*+|int", max_size=40))
def test_a_normal_form_is_its_own_whatever_is_written(text: str) -> None:
    once = normal(text)
    assert normal(once) == once
    assert plain(plain(once)) == plain(once)
