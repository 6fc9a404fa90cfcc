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

EVERY: Final = -1
"""The step `[*]`: every place of a list."""

KINDS: Final = ("body", "form", "query", "path", "header", "cookie")
"""Where a source can read from in a request."""

CALL_KINDS: Final = ("params", "arguments", "query", "path", "header", "cookie")
"""The same for one call of a JSON-RPC or MCP request."""

DOCUMENTS: Final = frozenset({"body", "params", "arguments", "result", "response.body"})
"""The kinds that are JSON and have a path into it."""

_PLACE: Final = r"\[(?:0|[1-9][0-9]{0,5}|\*)\]"
_SEGMENT = re.compile(rf"([^.\[\]{{}}\s\"']+)((?:{_PLACE})*)")
_LISTED = re.compile(rf"((?:{_PLACE})+)(?:\.(.+))?")
_INDEX = re.compile(r"\[([0-9]+|\*)\]")
_HEADER = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_COOKIE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
_SECRET_COOKIE = re.compile(r"sess|token|auth|csrf|xsrf|jwt|secret|^sid$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What `look_up` returns where nothing is; `None` is a value of JSON."""


class Source(msgspec.Struct, frozen=True):
    """One place of a request. `name` is the parameter or lower-case header name, `path` the way into the document."""

    kind: str
    name: str = ""
    path: Path = ()

    @property
    def label(self) -> str:
        """The source as the policy file spells it."""
        return f"{self.kind}{self.name}" if self.name.startswith("[") else f"{self.kind}.{self.name}"

    @property
    def many(self) -> bool:
        """Whether it names every place of a list."""
        return EVERY in self.path


def parse_path(text: str, *, every: bool = False) -> Path:
    """Read `items[0].price` as ('items', 0, 'price'), and with `every` also `[*]`. Raises `GrammarError`."""
    steps: list[str | int] = []
    for part in text.split("."):
        match = _SEGMENT.fullmatch(part)
        if match is None or (not every and "[*]" in part):
            msg = f"{text[:60]!r} is not a path: names joined by points, with [0] for a place in a list"
            raise GrammarError(msg)
        steps.append(match.group(1))
        steps.extend(_indexes(match.group(2)))
    return tuple(steps)


def parse_source(text: str, kinds: tuple[str, ...] = KINDS) -> Source:
    """Read one of `kinds`: `body.price`, `body[0].price`, `query.amount`, `header.x-amount`. Raises `GrammarError`."""
    kind = next((kind for kind in kinds if text.startswith((f"{kind}.", f"{kind}["))), "")
    name = text[len(kind) :].removeprefix(".")
    if not kind or not name or (text[len(kind)] == "[" and kind not in DOCUMENTS):
        known = ", ".join(f"{kind}.<{'path' if kind in DOCUMENTS else 'name'}>" for kind in kinds)
        msg = f"{text[:60]!r} is not a source: write one of {known}"
        raise GrammarError(msg)
    if kind in DOCUMENTS:
        listed = _LISTED.fullmatch(name) if text[len(kind)] == "[" else None
        if listed is None:
            return Source(kind, name, parse_path(name, every=True))
        rest = listed.group(2)
        return Source(kind, name, _indexes(listed.group(1)) + (parse_path(rest, every=True) if rest else ()))
    if kind == "header":
        if _HEADER.fullmatch(name) is None:
            msg = f"{text[:60]!r} does not name a header: letters, digits and '-'"
            raise GrammarError(msg)
        name = name.lower()
    elif kind == "cookie" and _COOKIE.fullmatch(name) is None:
        msg = f"{text[:60]!r} does not name a cookie"
        raise GrammarError(msg)
    if (kind == "header" and name in _SECRET) or (kind == "cookie" and _SECRET_COOKIE.search(name) is not None):
        msg = f"{text[:60]} holds a credential, which must not reach rules and receipts"
        raise GrammarError(msg)
    return Source(kind, name)


def _indexes(text: str) -> tuple[int, ...]:
    return tuple(EVERY if index == "*" else int(index) for index in _INDEX.findall(text))


def parse_template(text: str, kinds: tuple[str, ...] = KINDS) -> tuple[str | Source, ...]:
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
        parts.append(parse_source(match.group(1), kinds))
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


def look_up_every(document: Any, path: Path) -> list[Any] | None:
    """What a path with `[*]` finds, in order. `None` where a list is not there, or one of its places lacks a step."""
    found = [document]
    for step in path:
        if step == EVERY:
            if not all(isinstance(one, (list, tuple)) for one in found):
                return None
            found = [inner for one in found for inner in one]
        else:
            found = [look_up(one, (step,)) for one in found]
            if any(one is MISSING for one in found):
                return None
    return found


def look_up(document: Any, path: Path) -> Any:
    """Follow a path without `[*]` into parsed JSON. Returns `MISSING` where a step finds nothing."""
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
