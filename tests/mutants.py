"""The other ways to write a file that mean something else, each with one place changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy

import msgspec

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


class Mutant(msgspec.Struct, frozen=True):
    """One changed source beside what it was: the lines that were changed, the function they are in, and the change."""

    path: str
    line: int
    end: int
    function: str
    change: str
    source: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by, whatever else the file holds."""
        return (self.path, self.function, self.change)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: in {self.function}: {self.change}"


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Every changed source. Annotations and definitions for type checkers stay."""
    tree = ast.parse(source)
    skipped = {id(inner) for outer in ast.walk(tree) for inner in _untested(outer)}
    homes = dict(_homes(tree, ""))
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
                    line = getattr(node, "lineno", 0)
                    end = line if isinstance(node, ast.If) else getattr(node, "end_lineno", line)
                    what = f"{old}  ->  {ast.unparse(other).splitlines()[0]}"
                    yield Mutant(path, line, end, homes.get(id(node), "module"), what, source, text)


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


def _put(parent: ast.AST, name: str, place: int, field: object, node: ast.AST) -> None:
    if isinstance(field, list):
        field[place] = node
    else:
        setattr(parent, name, node)


def _homes(node: ast.AST, home: str) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        name = (
            getattr(child, "name", None)
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            else None
        )
        inner = f"{home}.{name}".lstrip(".") if name else home
        yield id(child), inner or "module"
        yield from _homes(child, inner)


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
