"""What `@capability` declares becomes entries like those under `routes:`, with the file's own schema and checks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import ValidationError

from afmiddleware.config.checks import check
from afmiddleware.config.messages import OURS, translated
from afmiddleware.config.schema import Config, Route
from afmiddleware.config.tree import Path, Problem, Tree, spelled
from afmiddleware.declare import Declaration, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMN: Final = 1


def declared_routes(
    config: Config,
    entries: Sequence[tuple[str, Declaration]],
) -> tuple[list[Route | None], list[str]]:
    """Make a route of each endpoint key and its declaration, and name all problems, each with the declaration's line.

    A route is `None` where its declaration is wrong. Callables are taken over as they are, without the schema.
    """
    plain = [{"route": key, **_split(declaration)[0]} for key, declaration in entries]
    around: dict[Path, tuple[int, int]] = dict.fromkeys([(), ("routes",)], (0, _COLUMN))
    tree = Tree(_surroundings(config, plain), {}, around, [], set())
    for place, entry in enumerate(plain):
        _place(tree, ("routes", place), entry, place + 1)
    for place, (_, declaration) in enumerate(entries):
        for name in sorted(OURS & declaration.fields.keys()):
            tree.problems.append(Problem(place + 1, _COLUMN, f"routes[{place + 1}].{name}: unknown key {name!r}"))
            tree.value["routes"][place].pop(name, None)
    check(tree)
    made: tuple[Route, ...] = ()
    try:
        made = Config.model_validate({"version": "1", "service": "declared", "routes": tree.value["routes"]}).routes
    except ValidationError as error:
        tree.problems.extend(translated(error, tree))
    problems = sorted(one for one in set(tree.problems) if one.line)
    said = [_said(one, *entries[one.line - 1]) for one in problems]
    wrong = {one.line - 1 for one in problems}
    if not made:
        return [None] * len(entries), said
    return [
        None if place in wrong else route.model_copy(update=_split(declaration)[1])
        for place, (route, (_, declaration)) in enumerate(zip(made, entries, strict=True))
    ], said


def digest_with(digest: str, entries: Sequence[tuple[str, Declaration]]) -> str:
    """The digest of a policy with what is declared in code: that of the file alone where nothing is.

    Where a declaration stands is left out, and of a callable its import path is in: hosts that run the same code agree.
    """
    if not entries:
        return digest
    told = sorted((key, [*sorted(_named(declaration).items())]) for key, declaration in entries)
    return hashlib.sha256(digest.encode("ascii") + b"\0" + msgspec.json.encode(told, order="sorted")).hexdigest()


def _split(declaration: Declaration) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields as the file would spell them, and those that are callables."""
    calls = {name: value for name, value in declaration.fields.items() if callable(value)}
    return {name: _spelled(value) for name, value in declaration.fields.items() if name not in calls}, calls


def _named(declaration: Declaration) -> dict[str, Any]:
    plain, calls = _split(declaration)
    return plain | {name: f"{call.__module__}:{_qualname(call)}" for name, call in calls.items()}


def _qualname(call: Any) -> str:
    return str(getattr(call, "__qualname__", type(call).__qualname__))


def _spelled(value: Any) -> Any:
    """A value as the reader of YAML hands it over: texts, lists and dicts."""
    if isinstance(value, Place):
        return {"from": value.text, **value.options}
    if isinstance(value, dict):
        return {str(key): _spelled(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(one) for one in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _surroundings(config: Config, routes: list[dict[str, Any]]) -> dict[str, Any]:
    assets = {name: {"exponent": str(digits)} for name, digits in config.exponents.items()}
    identity: dict[str, Any] = {"from_app": {}} if config.identity.from_app is not None else {}
    return {"assets": assets, "currency": config.currency, "identity": identity, "routes": routes}


def _place(tree: Tree, path: tuple[str | int, ...], value: Any, line: int) -> None:
    tree.places[path] = tree.keys[path] = (line, _COLUMN)
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, one in inner:
        _place(tree, (*path, part), one, line)


def _said(problem: Problem, key: str, declaration: Declaration) -> str:
    here = spelled(("routes", problem.line - 1))
    text = problem.text.removeprefix(f"{here}: ").removeprefix(f"{here}.")
    text = text.replace(f" in {here};", ";").replace(f" in {here}.", " in ")
    return f"{declaration.where}: {key}: {text}"
