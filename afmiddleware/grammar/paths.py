"""Where a value is found: paths into JSON (`items[0].price`), sources (`body.price`) and templates of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import GrammarError

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str | int, ...]
"""Member names and list indexes, from the outside in."""

KINDS: Final = ("body", "query", "path", "header")
"""Where a source can read from."""

_SEGMENT = re.compile(r"([^.\[\]{}\s\"']+)((?:\[(?:0|[1-9][0-9]{0,5})\])*)")
_LISTED = re.compile(r"body((?:\[(?:0|[1-9][0-9]{0,5})\])+)(?:\.(.+))?")
_INDEX = re.compile(r"\[([0-9]+)\]")
_HEADER = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What `look_up` returns where nothing is; `None` is a value of JSON."""


class Source(msgspec.Struct, frozen=True):
    """One place of a request. `name` is the parameter or lower-case header name, `path` the way into the body."""

    kind: str
    name: str = ""
    path: Path = ()

    @property
    def label(self) -> str:
        """The source as the policy file spells it."""
        return f"{self.kind}{self.name}" if self.name.startswith("[") else f"{self.kind}.{self.name}"


def parse_path(text: str) -> Path:
    """Read `items[0].price` as ('items', 0, 'price'). Raises `GrammarError`."""
    steps: list[str | int] = []
    for part in text.split("."):
        match = _SEGMENT.fullmatch(part)
        if match is None:
            msg = f"{text[:60]!r} is not a path: names joined by points, with [0] for a place in a list"
            raise GrammarError(msg)
        steps.append(match.group(1))
        steps.extend(int(index) for index in _INDEX.findall(match.group(2)))
    return tuple(steps)


def parse_source(text: str) -> Source:
    """Read `body.price`, `body[0].price`, `query.amount`, `path.id` or `header.x-amount`. Raises `GrammarError`."""
    kind, _, name = text.partition(".")
    listed = _LISTED.fullmatch(text)
    if listed is not None:
        indexes = tuple(int(index) for index in _INDEX.findall(listed.group(1)))
        rest = listed.group(2)
        return Source("body", text.removeprefix("body"), indexes + (parse_path(rest) if rest else ()))
    if kind not in KINDS or not name:
        msg = f"{text[:60]!r} is not a source: write body.<path>, query.<name>, path.<name> or header.<name>"
        raise GrammarError(msg)
    if kind == "body":
        return Source(kind, name, parse_path(name))
    if kind == "header":
        if _HEADER.fullmatch(name) is None:
            msg = f"{text[:60]!r} does not name a header: letters, digits and '-'"
            raise GrammarError(msg)
        if name.lower() in _SECRET:
            msg = f"{text} holds a credential, which must not reach rules and receipts"
            raise GrammarError(msg)
        return Source(kind, name.lower())
    return Source(kind, name)


def parse_template(text: str) -> tuple[str | Source, ...]:
    """Read `flight:{body.flight_id}` as its literal texts and sources, in order.

    Two placeholders with nothing between them are refused, since their values could not be told apart. Raises
    `GrammarError`.
    """
    parts: list[str | Source] = []
    place = 0
    for match in _PLACEHOLDER.finditer(text):
        literal = text[place : match.start()]
        if not literal and parts:
            msg = f"{text[:60]!r} needs a text between its placeholders"
            raise GrammarError(msg)
        if literal:
            parts.append(literal)
        parts.append(parse_source(match.group(1)))
        place = match.end()
    if text[place:]:
        parts.append(text[place:])
    if any("{" in part or "}" in part for part in _literals(parts)):
        msg = f"{text[:60]!r} holds a brace that opens or closes no placeholder"
        raise GrammarError(msg)
    if not parts:
        msg = "the template is empty"
        raise GrammarError(msg)
    return tuple(parts)


def _literals(parts: Iterable[str | Source]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def look_up(document: Any, path: Path) -> Any:
    """Follow a path into parsed JSON. Returns `MISSING` where a step finds nothing."""
    here = document
    for step in path:
        if isinstance(step, int):
            if not isinstance(here, (list, tuple)) or step >= len(here):
                return MISSING
            here = here[step]
        else:
            if not isinstance(here, (dict, Mapping)) or step not in here:
                return MISSING
            here = here[step]
    return here
