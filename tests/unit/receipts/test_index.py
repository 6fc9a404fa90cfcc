"""Each of the forty tests of a receipt log is there, under the name that the index has."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
INDEX = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_of_the_forty_is_there() -> None:
    assert list(INDEX) == list(range(1, 41))
    named = [
        (number, file, name) for number, case in INDEX.items() for file in case["where"] for name in case["where"][file]
    ]
    assert [one for one in named if one[2] not in names_in(one[1])] == []
    assert {number for number, _, _ in named} == set(INDEX)
