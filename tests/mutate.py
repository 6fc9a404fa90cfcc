"""Change the code in one place at a time, and see whether the tests notice.

    python -m tests.mutate afmiddleware/policy --sample 60 --seed 1 -- tests/unit/policy tests/conformance/test_rules.py

It works on a copy of the tree, runs the named tests against each change, and lists the changes that no test noticed.
"""

# ruff: noqa: T201 (it prints what it found)

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The other ways to write a node that mean something else."""
    made = deepcopy(node)
    if isinstance(made, ast.Compare) and type(made.ops[0]) in _COMPARED:
        made.ops[0] = _COMPARED[type(made.ops[0])]()
        yield made
    elif isinstance(made, ast.BoolOp):
        made.op = ast.Or() if isinstance(made.op, ast.And) else ast.And()
        yield made
        yield made.values[0]
    elif isinstance(made, ast.UnaryOp) and isinstance(made.op, ast.Not):
        yield made.operand
    elif isinstance(made, ast.BinOp) and type(made.op) in _COMPUTED:
        made.op = _COMPUTED[type(made.op)]()
        yield made
    elif isinstance(made, ast.Constant) and isinstance(made.value, bool):
        made.value = not made.value
        yield made
    elif isinstance(made, ast.Constant) and isinstance(made.value, int):
        made.value += 1
        yield made
    elif isinstance(made, (ast.If, ast.IfExp)):
        made.test = ast.UnaryOp(op=ast.Not(), operand=made.test)
        yield made
    elif isinstance(made, (ast.Continue, ast.Break)):
        yield ast.Pass()
    elif isinstance(made, ast.Return) and made.value is not None and not _is_none(made.value):
        made.value = ast.Constant(value=None)
        yield made


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Every changed source, with the line and what was changed. Annotations and definitions for type checkers stay."""
    tree = ast.parse(source)
    skipped = {id(inner) for outer in ast.walk(tree) for inner in _untested(outer)}
    for parent in ast.walk(tree):
        for name, field in ast.iter_fields(parent):
            for place, node in enumerate(field if isinstance(field, list) else [field]):
                if not isinstance(node, ast.AST) or id(node) in skipped:
                    continue
                for other in changed(node):
                    old = ast.unparse(node).splitlines()[0]
                    _put(parent, name, place, field, other)
                    text = ast.unparse(ast.fix_missing_locations(tree))
                    _put(parent, name, place, field, node)
                    yield getattr(node, "lineno", 0), f"{old}  ->  {ast.unparse(other).splitlines()[0]}", text


def _put(parent: ast.AST, name: str, place: int, field: object, node: ast.AST) -> None:
    if isinstance(field, list):
        field[place] = node
    else:
        setattr(parent, name, node)


def _untested(node: ast.AST) -> Iterator[ast.AST]:
    parts: list[ast.AST | None] = []
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        parts = [node]
    elif isinstance(node, (ast.AnnAssign, ast.arg)):
        parts = [node.annotation]
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        parts = [node.returns]
    elif isinstance(node, ast.ClassDef):
        parts = list(node.keywords)
    for part in parts:
        if part is not None:
            yield from ast.walk(part)


def main() -> None:
    """Run the changes that were drawn, and exit 1 when more than a twentieth of them survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("where", nargs="+")
    parser.add_argument("--sample", type=int, default=0, help="how many to draw; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", required=True, help="what pytest runs, separated by spaces")
    asked = parser.parse_args()
    files = [
        path
        for place in asked.where
        for path in ([Path(place)] if place.endswith(".py") else sorted(Path(place).rglob("*.py")))
    ]
    drawn = [(path, *one) for path in files for one in mutants((ROOT / path).read_text("utf-8"))]
    if asked.sample:
        drawn = random.Random(asked.seed).sample(drawn, min(asked.sample, len(drawn)))
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache"))
        path_list = os.pathsep.join(str(copy / one) for one in (".", "integrations", "sample_apps"))
        environment = {**os.environ, "PYTHONPATH": path_list, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            *asked.tests.split(),
        ]
        for number, (path, line, what, text) in enumerate(drawn, 1):
            kept = (copy / path).read_text("utf-8")
            (copy / path).write_text(text, "utf-8")
            try:
                ran = subprocess.run(
                    command, cwd=copy, env=environment, capture_output=True, timeout=PATIENCE, check=False
                )
                noticed = ran.returncode != 0
            except subprocess.TimeoutExpired:
                noticed = True
            (copy / path).write_text(kept, "utf-8")
            if not noticed:
                survived.append(f"{path}:{line}: {what}")
            print(f"{number}/{len(drawn)} {'noticed ' if noticed else 'SURVIVED'} {path}:{line}: {what}", flush=True)
    print(f"{len(survived)} of {len(drawn)} changes survived")
    sys.exit(1 if len(survived) * 20 > len(drawn) else 0)


if __name__ == "__main__":
    main()
