"""The tables of expected behaviour are held row for row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.test_rules import TABLES, WRONG

ROOT = Path(__file__).parents[2]
INDEX: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "rows.yaml").read_text("utf-8"))


def numbers(name: str) -> set[int]:
    """The rows that a case's name begins with: `3 and 5 deny beats allow`."""
    found = re.match(r"(?:\d+(?: and )?)+", name)
    return set(map(int, re.findall(r"\d+", found.group()))) if found is not None else set()


def later(entry: Any) -> set[int]:
    parts = [list(map(int, str(one).split("-"))) for one in entry["later"]]
    return {row for part in parts for row in range(part[0], part[-1] + 1)}


@pytest.mark.parametrize("name", INDEX)
def test_every_row_has_its_case_or_its_test(name: str) -> None:
    entry = INDEX[name]
    here = {
        row
        for table, one in TABLES
        if table.startswith(f"{name}-")
        for case in one["cases"]
        for row in numbers(case["name"])
    }
    here |= {
        row
        for one in WRONG
        if one["row"].startswith(f"{name} ")
        for row in numbers(one["row"].removeprefix(f"{name} "))
    }
    for row, (file, text) in entry["elsewhere"].items():
        assert text in (ROOT / file).read_text("utf-8"), (row, file, text)
    known = here | set(entry["elsewhere"]) | later(entry)
    assert sorted(set(range(1, entry["rows"] + 1)) - known) == []
    assert sorted(known - set(range(1, entry["rows"] + 1))) == []
    assert sorted(here & later(entry)) == []
