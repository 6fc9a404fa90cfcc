"""Every security case of identity has a test that names its number."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDERS = ("tests/identity", "tests/unit/identity", "tests/unit/lookups", "tests/integrations/agents")
_NUMBERS = re.compile(r"# ?(?:Case )?(\d{1,2}(?:, \d{1,2})*)(?::.*)?$")
INDEX = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))


def numbered(path: Path) -> set[int]:
    """The numbers in a file's comments, and those that begin the rows of its tables of cases."""
    text = path.read_text(encoding="utf-8")
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        match = _NUMBERS.match(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            found.update(int(one) for one in match.group(1).split(", "))
    for node in ast.parse(text).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.List):
            rows = [one for one in ast.walk(node.value) if isinstance(one, ast.Tuple) and len(one.elts) == 3]
            firsts = [row.elts[0] for row in rows]
            found.update(one.value for one in firsts if isinstance(one, ast.Constant) and type(one.value) is int)
    return found


def test_there_are_82_cases() -> None:
    assert list(INDEX["cases"]) == list(range(1, 83))


def test_every_case_has_a_test() -> None:
    tested = {number for folder in FOLDERS for path in (ROOT / folder).glob("test_*.py") for number in numbered(path)}
    for number, (file, text) in INDEX["elsewhere"].items():
        assert text in (ROOT / file).read_text(encoding="utf-8"), (number, file, text)
        tested.add(number)
    assert sorted(set(INDEX["cases"]) - tested) == []
