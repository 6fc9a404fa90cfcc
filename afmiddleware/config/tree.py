"""YAML text to plain values, every scalar as text, with the place of every key and value.

Only what has one reading is accepted: no anchors, aliases, merge keys, tags or second documents, no key twice. The
events of PyYAML's own safe loader are read, not libyaml's, so that a file means the same on every machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from afmiddleware.config.later import unsupported
from afmiddleware.grammar.quoting import cut, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 64

_SURROGATES: Final = (0xD800, 0xDFFF)
_NONE: Final = frozenset({("rates",)})
"""Keys that may say in words that there is none (`rates: null`)."""
_EMPTY: Final = ("", "~", "null", "Null", "NULL")

_MEMORY: Final = re.compile(r"[\s{,]*ledger:\s+memory:")
"""A ledger in memory as other URLs are written, which YAML takes for a key."""

_BRACE: Final = re.compile(r":?\{")
"""Where a text in a map on one line breaks off: `{id}` begins another map there."""

Path = tuple[str | int, ...]
Place = tuple[int, int]


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong: line and column from 1, and what to do about it."""

    line: int
    column: int
    text: str


class Tree(msgspec.Struct):
    """What a file says: `value` in strings, lists and dicts, and where each key (`keys`) and value (`places`) stands.

    `broken` are the values that a problem was noted for already. With `unread` the text could not be read to its end.
    """

    value: Any
    keys: dict[Path, Place]
    places: dict[Path, Place]
    problems: list[Problem]
    broken: set[Path]
    unread: bool = False

    def place(self, path: Path) -> Place:
        """Where the value at `path` stands, or the nearest one around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


class _Frame(msgspec.Struct):
    """A list or map that is being read. `key` is that of the value that comes next; `None` where a key comes next."""

    value: Any
    path: Path
    key: str | None = None
    skips: bool = False


def read_tree(text: str) -> Tree:
    """Read YAML (or JSON, which is YAML). Faults are in `problems`; nothing is raised for any text."""
    tree = Tree(None, {}, {}, [], set())
    fault = _unreadable(text)
    if fault is not None:
        tree.problems.append(fault)
        tree.unread = True
        return tree
    try:
        _Reader(tree).read(_events(text))
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark
        place = mark.line + 1, mark.column + 1
        # A text that breaks off leaves an empty value behind, which is not what is wrong.
        tree.problems = [one for one in tree.problems if (one.line, one.column) != place]
        _stop(tree, place, f"this is not YAML: {_said(error, mark, text)}")
    except yaml.reader.ReaderError as error:
        code = f"U+{ord(text[error.position]):04X}"
        _stop(tree, _place_of(text, error.position), f"the character {code} may not stand here; remove it")
    else:
        if () in tree.broken:
            tree.unread = True
        elif not tree.unread and not isinstance(tree.value, dict):
            empty = tree.value is None
            _stop(tree, (1, 1), "the file is empty; start with: version: 1" if empty else _NO_MAP)
    return tree


def _events(text: str) -> Iterator[Any]:
    """What a text is made of. Raises `yaml.YAMLError`."""
    loader: Any = yaml.SafeLoader(text)
    while True:
        try:
            if not loader.check_event():
                return
            event = loader.get_event()
        except (ValueError, OverflowError):
            # A number that Python cannot make a character of, or cannot read: of an escape, or of YAML's own version.
            mark = loader.get_mark()
            escape = text[mark.index - 2 : mark.index] == "\\U"
            said = "there is no such character, the last is \\U0010FFFF; correct it" if escape else _TOO_LONG
            raise yaml.MarkedYAMLError(problem=said, problem_mark=mark) from None
        yield event


_TOO_LONG: Final = "the number that begins here is too long; shorten it"
_NO_MAP: Final = "a policy is a map of keys and values; start with: version: 1"


def _unreadable(text: str) -> Problem | None:
    """What forbids the text as a whole."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Problem(1, 1, f"the file is larger than {MAX_BYTES} bytes; a policy of that size is a mistake")
    if text.startswith("\ufeff"):
        return Problem(1, 1, "the file starts with a byte order mark; save it as UTF-8 without one")
    for position, character in enumerate(text):
        if _SURROGATES[0] <= ord(character) <= _SURROGATES[1]:
            return Problem(*_place_of(text, position), "the text is not UTF-8; save the file as UTF-8")
    return None


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def _stop(tree: Tree, place: Place, text: str) -> None:
    tree.problems.append(Problem(*place, text))
    tree.unread = True


def _said(error: yaml.MarkedYAMLError, mark: Any, text: str) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "a tab cannot stand here; indent with spaces"
    if problem.startswith("mapping values"):
        if _MEMORY.match(text.splitlines()[mark.line]):
            return "the colon after memory has no quotes around it; write ledger: memory"
        return "a text holds a colon at its end or before a space; put it in quotes"
    if problem.startswith("expected ',' or '}'") and _BRACE.match(text, mark.index):
        return "a name in braces stands in a text without quotes; put the text in quotes"
    if error.context == "while scanning an alias" and "']'" in problem:
        return "a [*] stands in a text without quotes; put the text in quotes"
    if error.context in {"while scanning a tag", "while parsing a tag"}:
        return "an exclamation mark stands before a text without quotes; put the text in quotes"
    return f"{error.context}: {problem}" if error.context else problem


class _Reader:
    """Builds a tree from events, so that nothing nests on the interpreter's own stack."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._frames: list[_Frame] = []
        self._skipping = 0

    def read(self, events: Iterable[Any]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _stop(self._tree, _at(event), "a second document begins here; a policy is one document")
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
            if self._tree.unread:
                return

    def _end(self) -> None:
        if self._skipping:
            self._skipping -= 1
        else:
            self._frames.pop()

    def _node(self, event: Any) -> None:
        opens = isinstance(event, yaml.CollectionStartEvent)
        if len(self._frames) + self._skipping >= MAX_DEPTH and opens:
            _stop(self._tree, _at(event), f"nested deeper than {MAX_DEPTH} levels; write it flatter")
            return
        if self._skipping:
            self._skipping += opens
            return
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None and not frame.skips:
            self._key(frame, event, opens=opens)
            return
        if frame is not None and frame.skips:
            frame.skips = False
            self._skipping += opens
            return
        path = _next_path(frame)
        self._tree.places[path] = _at(event)
        value = self._value(event, path)
        if frame is None:
            self._tree.value = value
        elif isinstance(frame.value, list):
            frame.value.append(value)
        else:
            if value is not None:
                frame.value[frame.key] = value
            frame.key = None
        if opens:
            self._frames.append(_Frame(value, path))

    def _key(self, frame: _Frame, event: Any, *, opens: bool) -> None:
        frame.skips = True
        if opens or isinstance(event, yaml.AliasEvent):
            self._note(_at(event), "a key is one word, not a list, a map or an alias; write a word")
            self._skipping += opens
            return
        self._plain(event, None)
        name, path = _joined(event.value), (*frame.path, _joined(event.value))
        if name == "<<" and event.style is None:
            self._note(_at(event), "merge keys are not accepted; write the values out")
        elif path in self._tree.keys:
            line = self._tree.keys[path][0]
            self._note(
                _at(event), f"the key {quoted(name)} stands here twice, first on line {line}; remove one of them"
            )
        elif not name.isprintable() or not name:
            self._note(_at(event), "a key is one word of printable characters; write a word")
        else:
            self._tree.keys[path] = _at(event)
            frame.key, frame.skips = name, False

    def _value(self, event: Any, path: Path) -> Any:
        """The value a node begins, `None` where there is none worth reading."""
        if isinstance(event, yaml.AliasEvent):
            self._note(_at(event), f"the alias *{event.anchor} is not accepted; write the value out", path)
            return ""
        # What a marked list or map holds can be read all the same, so its own problems are told too.
        self._plain(event, path if hasattr(event, "value") else None)
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        text = _joined(event.value)
        if event.style is None and text in _EMPTY and path[:1] != ("metadata",):
            return self._empty(event, path)
        if any(_SURROGATES[0] <= ord(character) <= _SURROGATES[1] for character in text):
            self._note(_at(event), "the text holds half a character (a lone surrogate); write the character", path)
            return ""
        return text

    def _empty(self, event: Any, path: Path) -> str | None:
        if not path:
            return None
        if event.value and (path in _NONE or unsupported(path)):
            return None
        self._note(_at(event), f"{spelled(path)} has no value; write one, or remove it", path)
        return ""

    def _plain(self, event: Any, path: Path | None) -> None:
        if event.anchor is not None:
            self._note(_at(event), f"the anchor &{event.anchor} is not accepted; write the value out", path)
        if event.tag is not None:
            self._note(_at(event), f"the tag {cut(event.tag)} is not accepted; every value is read as text", path)

    def _note(self, place: Place, text: str, path: Path | None = None) -> None:
        self._tree.problems.append(Problem(*place, text))
        if path is not None:
            self._tree.broken.add(path)


def _at(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _next_path(frame: _Frame | None) -> Path:
    if frame is None:
        return ()
    return (*frame.path, len(frame.value) if frame.key is None else frame.key)


def _joined(text: str) -> str:
    """JSON writes characters beyond the basic plane as two escapes; read them as the one they are."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def spelled(path: Path) -> str:
    """A path as problems name it: `routes[1].amount.from`, lists counted from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
