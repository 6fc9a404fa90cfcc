"""YAML text to plain values, every scalar as text, with the place of every key and value.

Only what has one reading is accepted: no anchors, aliases, merge keys, tags or second documents, no key twice.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import yaml

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32

Path = tuple[str | int, ...]
Place = tuple[int, int]


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong: line and column from 1, and what to do about it."""

    line: int
    column: int
    text: str


class Tree(msgspec.Struct):
    """What a file says: `value` in strings, lists and dicts, and where each key (`keys`) and value (`places`) stands."""

    value: Any
    keys: dict[Path, Place]
    places: dict[Path, Place]
    problems: list[Problem]


def read_tree(text: str) -> Tree:
    """Read YAML (or JSON, which is YAML). Faults are in `problems`; nothing is raised for any text."""
    tree = Tree({}, {}, {(): (1, 1)}, [])
    if len(text) > MAX_BYTES:
        tree.problems.append(Problem(1, 1, f"the file is larger than {MAX_BYTES} characters"))
        return tree
    if text.startswith("\ufeff"):
        tree.problems.append(Problem(1, 1, "the file starts with a byte order mark; save it as UTF-8 without one"))
        return tree
    try:
        if not _plain(text, tree):
            return tree
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        tree.problems.append(Problem(line, column, f"this is not YAML: {said}"))
        return tree
    except (yaml.YAMLError, ValueError) as error:
        tree.problems.append(Problem(1, 1, f"this is not YAML: {str(error).splitlines()[0]}"))
        return tree
    if node is None:
        tree.problems.append(Problem(1, 1, "the file is empty; start with: version: 1"))
        return tree
    tree.value = _read(node, (), tree)
    return tree


def _plain(text: str, tree: Tree) -> bool:
    """Whether the events hold only what has one reading, and are not nested too deep to compose."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                tree.problems.append(Problem(*place, "a second document begins here; a policy is one document"))
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            tree.problems.append(Problem(*place, "anchors and aliases are not accepted; write the value out"))
        elif getattr(event, "tag", None) is not None and not _implied(event):
            tree.problems.append(Problem(*place, f"the tag {event.tag} is not accepted; every value is read as text"))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                tree.problems.append(Problem(*place, f"nested deeper than {MAX_DEPTH} levels"))
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return not tree.problems


def _implied(event: Any) -> bool:
    implicit = getattr(event, "implicit", None)
    return bool(implicit if isinstance(implicit, bool) else implicit and any(implicit))


def _read(node: yaml.Node, path: Path, tree: Tree) -> Any:
    tree.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and node.value in ("", "~", "null"):
            return None
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_read(child, (*path, place), tree) for place, child in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key, child in node.value:
        place = (key.start_mark.line + 1, key.start_mark.column + 1)
        if not isinstance(key, yaml.ScalarNode):
            tree.problems.append(Problem(*place, "a key is one word, not a list or a map"))
            continue
        name = key.value
        if name == "<<" and key.style is None:
            tree.problems.append(Problem(*place, "merge keys are not accepted; write the values out"))
            continue
        if name in found:
            first = tree.keys[(*path, name)][0]
            tree.problems.append(Problem(*place, f"{name!r} stands here twice; the first is on line {first}"))
            continue
        tree.keys[(*path, name)] = place
        found[name] = _read(child, (*path, name), tree)
    return found
