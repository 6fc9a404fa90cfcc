r"""Route templates: one normal form for the spellings of every framework, so that one fence.yaml serves them all.

| spelled | by | normal |
|---|---|---|
| `/v1/x/{id}`, `{id:str}` | Starlette, FastAPI | `/v1/x/{id}` |
| `/v1/x/<id>`, `<string:id>`, `<string(length=2):id>` | Flask (werkzeug) | `/v1/x/{id}` |
| `v1/x/<id>`, `<str:id>` | Django `path` | `/v1/x/{id}` |
| `{id:int}`, `<int:id>`, `<int(min=1):id>` | all | `{id:int}` |
| `{p:path}`, `<path:p>` | all | `{p:path}` |
| `<uuid:id>`, `{id:uuid}`, `<slug:s>`, `<any(a,b):x>` | all | `{id:uuid}`, `{s:slug}`, `{x:any}` |
| `^v1/x/(?P<id>[0-9]+)/$` | Django `re_path` | `/v1/x/{id}/` |
| `^files/(?P<p>.+)$` | Django `re_path` | `/files/{p:path}` |

The rules:

- A template starts with one slash; one that has none (Django's) gets it. A slash at the end is part of it, and `//host`
  at the beginning names a host.
- A parameter is `{name}` or `{name:converter}`. A converter's arguments are dropped, and one that means any text
  (`str`, `string`, `default`) with them.
- Of a regular expression, `^`, `$`, `\Z` and backslashes before punctuation are dropped, and a named group becomes a
  parameter: `{name:path}` where it can match a slash. An expression that holds more than that (a choice, an
  optional part, an unnamed group, a class outside of a group) has no other spelling and stays as it is.
- Names, case and everything else are kept: a parameter of another name is another endpoint.

The normal form only says which entry of the policy means which endpoint. It is never matched against a request.
"""

from __future__ import annotations

import re
from typing import Final

_TEXT: Final = frozenset({"str", "string", "default"})
_ANGLED = re.compile(r"<(?:([A-Za-z_]\w*)(?:\([^()]*\))?:)?([A-Za-z_]\w*)>", re.ASCII)
_BRACED = re.compile(r"\{([A-Za-z_]\w*)(?::([A-Za-z_]\w*))?\}", re.ASCII)
_GROUP = "(?P<"
_GROUP_NAME = re.compile(r"\(\?P<([A-Za-z_]\w*)>")
_SPECIAL: Final = frozenset(".*+?[](){}|^$")
_PROBES: Final = ("a/b", "1/2", "/", "a/")


def normal(template: str) -> str:
    """The normal form of a template. Normal forms are their own."""
    text: str | None = template
    if _is_regex(template):
        text = _from_regex(template)
    if text is None:
        return template
    text = _ANGLED.sub(lambda found: _parameter(found.group(2), found.group(1)), text)
    text = _BRACED.sub(lambda found: _parameter(found.group(1), found.group(2)), text)
    text = text if text.startswith("/") else f"/{text}"
    # Literal characters that would now be read as an expression were not meant as one.
    return template if text is not template and _is_regex(text) else text


def plain(template: str) -> str:
    """A normal form without its converters but for `path`: what templates that differ in these alone share."""
    return _BRACED.sub(lambda found: found.group(0) if found.group(2) == "path" else f"{{{found.group(1)}}}", template)


def parameters(template: str) -> frozenset[str]:
    """The names of the parameters of a template, in any spelling."""
    text = normal(template)
    return frozenset(_GROUP_NAME.findall(text)) | {found.group(1) for found in _BRACED.finditer(text)}


def _parameter(name: str, converter: str | None) -> str:
    return f"{{{name}}}" if converter is None or converter in _TEXT else f"{{{name}:{converter}}}"


def _is_regex(template: str) -> bool:
    return template.lstrip("/").startswith("^") or template.endswith(("$", r"\Z")) or _GROUP in template


def _from_regex(pattern: str) -> str | None:
    """The template an expression stands for, `None` where it says more than a template can."""
    text = re.sub(r"^(/?)\^", r"\1", pattern)
    text = text.removesuffix("$") if not text.endswith(r"\$") else text
    text = text.removesuffix(r"\Z")
    made: list[str] = []
    place = 0
    while place < len(text):
        if text.startswith(_GROUP, place):
            name = _GROUP_NAME.match(text, place)
            end = _closing(text, place)
            if name is None or end is None:
                return None
            across = _crosses(text[name.end() : end])
            if across is None:
                return None
            made.append(_parameter(name.group(1), "path" if across else None))
            place = end + 1
            continue
        character = text[place]
        parameter = _ANGLED.match(text, place) or _BRACED.match(text, place)
        if parameter is not None:
            made.append(parameter.group(0))
            place = parameter.end()
            continue
        if character == "\\":
            character = text[place + 1 : place + 2]
            if not character or character.isalnum():
                return None
            place += 1
        elif character in _SPECIAL:
            return None
        made.append(character)
        place += 1
    # A group that may be left out or repeated was followed by one of the special characters.
    return "".join(made)


def _closing(text: str, start: int) -> int | None:
    """Where the parenthesis that opens at `start` closes."""
    depth, place, inside = 0, start, False
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif inside:
            inside = character != "]" or text[place - 1] in "[^"
        elif character == "[":
            inside = True
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if not depth:
                return place
        place += 1
    return None


def _crosses(body: str) -> bool | None:
    """Whether a group can match a slash; `None` where it is no expression."""
    try:
        compiled = re.compile(body)
    except re.error:
        return None
    return "/" in body.replace("[^/", "") or any(compiled.fullmatch(probe) for probe in _PROBES)
