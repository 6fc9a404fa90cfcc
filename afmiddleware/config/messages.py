"""What pydantic finds, in the words of the file's author and with the place in the file."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from afmiddleware.config.later import unsupported
from afmiddleware.config.policy_schema import AllowRule, BaseRule
from afmiddleware.config.schema import Config
from afmiddleware.config.tree import Path, Problem, Tree, spelled
from afmiddleware.grammar.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

OURS = frozenset({"line", "digest", "source", "secret", "risk_lines"})
"""Fields that the loader fills in; in a file they are unknown keys."""

_WHEN = 3
_NAMED = frozenset({"assets", "methods", "tools", "prices", "lists", "schedules", "actors"})
"""Maps whose keys are the file's own names."""
_DEMANDS = frozenset(AllowRule.model_fields) - frozenset(BaseRule.model_fields)


def translated(error: ValidationError, tree: Tree) -> Iterator[Problem]:
    """Every error as a problem, but for those that the tree or its checks have noted already."""
    for one in error.errors():
        path = _known_path(one["loc"], tree)
        around = path[:-1] if one["type"] == "extra_forbidden" else path
        if not tree.broken.isdisjoint([around, *(around[:size] for size in range(len(around)))]):
            continue
        if path[:1] == ("rules",) and path[_WHEN:] == ("when",):
            continue
        if one["type"] == "extra_forbidden":
            yield unknown(path, tree)
        elif one["type"] == "missing":
            name = str(one["loc"][-1])
            where = f"{spelled(path)}: " if path else ""
            yield Problem(*tree.place(path), f"{where}the key {name!r} is missing; add it")
        elif one["loc"][-1] == "[key]":
            yield Problem(*tree.keys[path], f"{spelled(path)}: {_sentence(one)}")
        else:
            yield Problem(*tree.place(path), f"{spelled(path)}: {_sentence(one)}")


def unknown(path: Path, tree: Tree) -> Problem:
    """The problem of a key that is not known, not yet, or not needed."""
    line, column = tree.keys[path]
    refused = unsupported(path)
    if refused:
        return Problem(line, column, f"{spelled(path)} {refused}; remove it")
    name, known = str(path[-1]), _siblings(path[:-1])
    if path[:2] in {("rules", "deny"), ("rules", "require_approval")} and name in _DEMANDS:
        text = f"{spelled(path)}: {name} is a demand of allow rules; remove it, or deny by capability and when"
        return Problem(line, column, text)
    near = get_close_matches(name, known)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    where = f" in {spelled(path[:-1])}" if len(path) > 1 else ""
    return Problem(line, column, f"unknown key {quoted(name)}{where}; {hint}")


def _sentence(one: Any) -> str:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        found = f"the text {quoted(str(one['input']))}" if isinstance(one["input"], str) else "a list"
        return f"{found} stands here; write a map of keys and values"
    if kind == "too_short":
        return "the map is empty; write at least one entry"
    if kind in {"string_too_long", "too_long"}:
        return f"the text is longer than {context['max_length']} characters; shorten it"
    if kind == "less_than_equal":
        return f"the number is more than {context['le']}; write less"
    if kind == "greater_than_equal":
        return f"the number is less than {context['ge']}; write more"
    return "this is not what is expected here; look at the schema"


def _siblings(path: Path) -> list[str]:
    """The keys that are known in the map at `path`."""
    model: Any = Config
    own = False
    for part in path:
        # A name of the file's own, or a place in a list: the model is that of what stands there.
        if own or isinstance(part, int):
            own = False
            continue
        model = _model_in(next(one.annotation for name, one in model.model_fields.items() if part in (one.alias, name)))
        own = part in _NAMED
    return [field.alias or name for name, field in model.model_fields.items() if name not in OURS]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Annotated[Route, ...], ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _known_path(loc: tuple[int | str, ...], tree: Tree) -> Path:
    """The part of a pydantic location that is in the file: union tags and what is missing fall out."""
    path: Path = ()
    for part in loc:
        if (*path, part) in tree.places:
            path = (*path, part)
    return path
