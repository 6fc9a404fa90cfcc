"""The corpus covers what was measured: each row of the research report has a case on each stack that the row names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.corpus.corpus import Case, cases
from tests.corpus.stacks import KINDS, STACKS

ROWS = yaml.safe_load((Path(__file__).parent / "rows.yaml").read_text(encoding="utf-8"))
HONEST = "honest"
"""What is no row of the report: requests that have to pass."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_each_row_has_a_case_on_each_of_its_stacks(row: dict[str, object]) -> None:
    named = row["stacks"]
    assert isinstance(named, list)
    wanted = {stack for stack in STACKS if {stack, *KINDS[stack].also} & {*named}}
    assert wanted, row["says"]
    having = {stack for case in cases().values() if row["id"] in case.rows for stack in case.where}
    assert wanted - having == set(), row["says"]


@pytest.mark.parametrize("case", cases().values(), ids=lambda case: case.name)
def test_each_case_stands_for_a_row_and_expects_something_everywhere(case: Case) -> None:
    assert case.rows
    assert set(case.rows) <= {row["id"] for row in ROWS} | {HONEST}
    assert case.where
    known = {name for stack, kind in KINDS.items() for name in (stack, *kind.also)}
    assert known.issuperset((*case.stacks, *case.elsewhere))
    for stack in case.where:
        case.expected(stack)
