"""A policy of CapFence as a fence.yaml: what it reads out of a whole payload is read in a named field here. Pure.

A condition that cannot be said makes a denial or an approval unconditional, and leaves an allow rule out.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.cli.convert import Sheet, flow_map
from afmiddleware.cli.foreign import CapPolicy, fits
from afmiddleware.errors import ConfigError, GrammarError
from afmiddleware.grammar.capability import matches
from afmiddleware.grammar.regexes import compile_regex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECTIONS: Final = ("deny", "require_approval", "allow")
_OF_ACTION: Final = MappingProxyType({"deny": "deny", "block": "deny", "warn": "allow"})
_COMPARED: Final = frozenset({"gt", "gte", "lt", "lte"})
_EQUAL: Final = MappingProxyType(
    {
        "environment": ("environment", "eq"),
        "tenant": ("actor.tenant", "eq"),
        "user_role": ("actor.roles", "contains"),
        "risk_level": ("risk", "eq"),
    },
)
_TEXTS: Final = frozenset({"contains", "match_keywords", "match_regex", "path_prefix"})
_PAYLOAD: Final = frozenset({"table", "tool_name"})
_KNOWN: Final = frozenset(
    {*_EQUAL, *_TEXTS, *_PAYLOAD, *(f"{name}_{one}" for name in ("amount", "caller_depth") for one in _COMPARED)},
)
_NOT_SAID: Final = frozenset({"id", "description", "action", "threshold"})
_LEGACY: Final = frozenset({"capability", "match_keywords", "match_regex"})
_WHOLE: Final = 3
"""How many parts a capability has there; a shorter name stands for all that begins so."""
_SEGMENT: Final = r"(?:[^./\\][^/\\]*|\.[^./\\][^/\\]*|\.\.[^/\\]+)"
"""A segment of a path that is neither `.` nor `..`."""

Text = tuple[str, bool]
"""A path into the payload, and whether the caller may leave it out."""


def text_at(value: str) -> tuple[str, Text]:
    """Read `shell.exec=command`, or `command` for every capability; a final `?` is for what may be left out."""
    capability, equals, path = value.rpartition("=")
    if not path.rstrip("?") or (equals and not capability):
        msg = f"{value[:60]!r} names no field; write it such as command, or shell.exec=command"
        raise ConfigError([msg])
    return capability, (f"payload.{path.removesuffix('?')}", path.endswith("?"))


def from_capfence(document: Any, currency: str = "USD", texts: Iterable[str] = ()) -> str:
    """Convert a policy.yaml of CapFence, whose `extends` are merged already.

    `texts` say in which field of the payload its conditions on text look, as `text_at` reads them; what a denial looks
    for in a field holds where that field is missing, too. Raises `ConfigError`.
    """
    fits(document, CapPolicy, "policy of CapFence")
    sheet = Sheet(str(document.get("policy_name") or "service"), currency)
    fields = dict(text_at(one) for one in texts)
    for section in SECTIONS:
        for one in document.get(section) or ():
            told = {"capability": one} if isinstance(one, str) else dict(one)
            _check({"capability": None} | told, _KNOWN | {"capability"})
            _rule(sheet, section, told, currency, fields)
    for one in document.get("rules") or ():
        _check(one, _LEGACY | _NOT_SAID)
        told = {key: value for key, value in one.items() if key not in _NOT_SAID}
        action = str(one.get("action"))
        _rule(sheet, _section_of(action), {"capability": "*"} | told, currency, fields)
    for level, told in (document.get("risk_levels") or {}).items():
        action = str(told.get("action") if isinstance(told, dict) else told)
        if action != "allow":
            sheet.risk[str(level)] = "deny" if action == "block" else action
    if "require_approval" in sheet.risk.values():
        sheet.remark("allow", "stricter: an approval by risk opened what no rule allows; here it does not")
    return sheet.text("a policy of CapFence")


def _check(told: Mapping[str, Any], known: frozenset[str]) -> None:
    """A misspelt condition is refused there too."""
    unknown = sorted(set(told) - known)
    if unknown or not isinstance(told.get("capability", "*"), str):
        raise ConfigError([f"this is no policy of CapFence: a rule has no {(unknown or ['capability'])[0]!r:.60}"])


def _section_of(action: str) -> str:
    section = _OF_ACTION.get(action, action)
    if section not in SECTIONS:
        raise ConfigError([f"this is no policy of CapFence: a rule's action is {action[:40]!r}"])
    return section


def _pattern(name: str) -> str:
    """`a.b` and `a.b.*` stand for all that begins with `a.b` there."""
    parts = name.split(".")
    if len(parts) > _WHOLE or (len(parts) == _WHOLE and parts[-1] != "*"):
        return name
    while parts and parts[-1] == "*":
        parts.pop()
    return ".".join([*parts, "**"])


class _Draft(msgspec.Struct):
    """A rule in the making: its conditions, and those of their fields that the payload has, which may be left out."""

    section: str
    text: Text | None
    currency: str
    when: dict[str, dict[str, Any]] = {}
    looked: dict[str, bool] = {}


def _rule(sheet: Sheet, section: str, told: dict[str, Any], currency: str, fields: Mapping[str, Text]) -> None:
    name = told.pop("capability")
    text = next((one for known, one in fields.items() if known and matches(_pattern(known), name)), fields.get(""))
    draft = _Draft(section, text, currency)
    lost = [key for key, value in told.items() if not _said(draft, key, value)]
    entry: dict[str, Any] = {"capability": _pattern(name)}
    if section != "allow":
        _refusal(sheet, draft, entry, lost)
        return
    entry |= {"when": draft.when} if draft.when else {}
    if any("*" in part and part != "*" for part in name.split(".")):
        sheet.remark(section, f"stricter: left out, for {name} has a star within a part, and covered nothing")
    elif lost:
        why = f"{', '.join(lost)} names no field of the payload"
        sheet.remark(section, f"stricter: left out, for {why}: {flow_map(entry)}")
    else:
        sheet.add(section, entry)


def _refusal(sheet: Sheet, draft: _Draft, entry: dict[str, Any], lost: list[str]) -> None:
    when = draft.when
    # Who leaves the field out is not let off.
    missing = [
        {**{one: test for one, test in when.items() if one not in draft.looked}, field: {"exists": "false"}}
        for field, optional in draft.looked.items()
        if not optional
    ]
    entry |= {"when": [when, *missing] if missing else when} if when else {}
    note = f"stricter: without {', '.join(lost)}, which names no field of the payload; say it with --text"
    sheet.add(draft.section, entry, note if lost else "")
    if draft.section == "require_approval":
        sheet.add("allow", entry, "there an approval opened this by itself; it still needs that approval")


def _said(draft: _Draft, key: str, value: Any) -> bool:
    """Add a condition; false when our language cannot say it."""
    when = draft.when
    subject, _, operator = key.rpartition("_")
    plain = isinstance(value, (str, int)) and not isinstance(value, bool) and not re.search(r"[*?\[]", str(value))
    if key in _TEXTS:
        return _looks(draft, key, value)
    if key in _PAYLOAD:
        # What a tool is called is told by the caller there, too: that may refuse, and not allow.
        told = isinstance(value, str) and not (key == "tool_name" and draft.section == "allow")
        return told and _puts(draft, f"payload.{key}", {"matches": _glob(str(value))}, optional=False)
    if subject in {"amount", "caller_depth"} and operator in _COMPARED and plain:
        field, wanted = ("amount", f"{value} {draft.currency}") if subject == "amount" else ("actor.depth", str(value))
        when.setdefault(field, {})[operator] = wanted
    elif key == "environment" and isinstance(value, list):
        when["environment"] = {"in": [str(one) for one in value]}
    elif key in _EQUAL and plain:
        field, word = _EQUAL[key]
        when[field] = {word: str(value)}
    else:
        return False
    return True


def _looks(draft: _Draft, key: str, value: Any) -> bool:
    """A condition on text, in the field that stands for it."""
    values = value if isinstance(value, list) and key.startswith("match_") else [value]
    if draft.text is None or not values or not all(isinstance(one, (str, int)) and str(one) for one in values):
        return False
    words, refuses = [str(one) for one in values], draft.section != "allow"
    if key == "path_prefix":
        under = f"{re.escape(words[0].rstrip('/'))}(?:/{_SEGMENT})+"
        test = {"starts_with": words[0]} if refuses else {"matches": under}
    elif key == "match_regex":
        test = {"matches": _search(words, wide=refuses)}
    else:
        test = {"matches": f"(?is).*(?:{'|'.join(map(re.escape, words))}).*"}
    field, optional = draft.text
    return _puts(draft, field, test, optional=optional)


def _puts(draft: _Draft, field: str, test: dict[str, str], *, optional: bool) -> bool:
    """Add a test of a field of the payload, unless it has one already or the expression is none of ours."""
    try:
        compile_regex(test.get("matches", ""))
    except GrammarError:
        return False
    if field in draft.when:
        return False
    draft.when[field], draft.looked[field] = test, optional
    return True


def _search(expressions: list[str], *, wide: bool) -> str:
    r"""Expressions of which one is found anywhere in a text.

    Where they differ between the engines (`$` before a last line end, `\s` and `\w` beyond ASCII), a `wide` one holds.
    """
    found = "|".join(f".*(?:{one}).*" for one in expressions)
    if not wide:
        return f"(?s){found}"
    beyond = r"|.*[^\t\n\r\x20-\x7e].*" if any("\\" in one for one in expressions) else ""
    return f"(?sm){found}{beyond}"


def _glob(value: str) -> str:
    return "(?s)" + re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
