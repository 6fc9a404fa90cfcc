"""The schema of what decides: `rules`, `lists`, `schedules` and `actors` of fence.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from afmiddleware.config.conditions import normal_when
from afmiddleware.config.mapped import Line, Model, Price
from afmiddleware.config.texts import (
    SOME,
    Boolean,
    Checked,
    Text,
    Word,
    check_currency,
    check_name,
    check_zone,
    list_of,
    one_of,
    some_of,
    text_of,
)
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.grammar.quoting import quoted
from afmiddleware.grammar.schedules import parse_day, parse_hours
from afmiddleware.model.risk import RISKS
from afmiddleware.model.tier import Tier

RISK_ACTIONS: Final = ("deny", "require_approval", "warn")
"""What may become of an action by its risk; `warn` allows what a rule allows, and flags it."""
NORMALIZE: Final = ("evm", "lower")

_CONDITION: Final = {"type": "object", "minProperties": 1}
_WHEN_SCHEMA: Final = {"anyOf": [_CONDITION, {"type": "array", "minItems": 1, "items": _CONDITION}]}
_PERCENT = re.compile(r"(100|[1-9]?[0-9])(?:\.([0-9]{1,2}))?%", re.ASCII)
_ACTOR = re.compile(r"[^\s*]{1,300}|[^\s*]{0,300}\*")
_WHOLE_SHARE: Final = 10_000
MODES: Final = r"^(enforce|observe( (100|[1-9]?[0-9])(\.[0-9]{1,2})?%)?)$"
"""How a mode is written, for the JSON Schema."""


def _rule(value: Any) -> Any:
    return {"capability": value} if isinstance(value, str) else value


def list_entry(value: Any) -> Any:
    """A list as a map: values that stand there themselves are its `values`."""
    return {"values": value} if isinstance(value, list) else value


def share(value: Any) -> int:
    """Read `true`, `false` or `25%` as hundredths of a percent. Raises `ValueError`."""
    text = text_of(value)
    if text in {"true", "false"}:
        return _WHOLE_SHARE if text == "true" else 0
    match = _PERCENT.fullmatch(text)
    found = int(match.group(1)) * 100 + int((match.group(2) or "").ljust(2, "0")) if match is not None else None
    if found is None or found > _WHOLE_SHARE:
        msg = f"{quoted(text)} is not a share of the callers; write true, or a percentage such as 25%"
        raise ValueError(msg)
    return found


def observing(mode: str) -> int:
    """How many hundredths of a percent of the callers a mode only observes. Raises `ValueError` for what is none."""
    word, _, part = mode.partition(" ")
    if mode in {"enforce", "observe"}:
        return _WHOLE_SHARE if mode == "observe" else 0
    if word != "observe" or _PERCENT.fullmatch(part) is None:
        msg = f"{quoted(mode)} is not known here; use enforce, observe, or a part of the callers such as observe 25%"
        raise ValueError(msg)
    return share(part)


def check_actor(value: str) -> None:
    """Raises `ValueError` for anything but the id of an actor, or the beginning of one and `*`."""
    if _ACTOR.fullmatch(value) is None or not value.isprintable():
        msg = f"{quoted(value)} is not an actor; write an id such as key:acct_42, or its beginning and *, such as key:*"
        raise ValueError(msg)


def _some(value: Any) -> Any:
    return some_of([value] if isinstance(value, str) else value)


When = Annotated[list[dict[str, dict[str, Any]]], BeforeValidator(normal_when), WithJsonSchema(_WHEN_SCHEMA)]
Share = Annotated[
    int,
    BeforeValidator(share),
    WithJsonSchema({"anyOf": [{"enum": [True, False, "true", "false"]}, {"type": "string", "pattern": "%$"}]}),
]
_CODES_SCHEMA: Final = {
    "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
}
Codes = Annotated[
    tuple[Annotated[Word, Checked(check_currency)], ...],
    BeforeValidator(_some),
    WithJsonSchema(_CODES_SCHEMA),
]


class BaseRule(Model):
    """What every rule has. `id` is its place, `deny[1]`, where the file names none.

    `when` is alternatives of conditions; `applies_to` says whether it is for agents alone.
    """

    line: Line = 0
    id: Annotated[Text, Field(max_length=64)] = ""
    capability: Annotated[Word, Checked(check_pattern)]
    when: When | None = None
    applies_to: Annotated[Word, one_of("all", "agents", "proven_agents")] = "all"
    reason: Annotated[Text, Field(max_length=300)] | None = None


class Rule(BaseRule):
    """A deny rule. With `observe` it only says, for all callers or a share of them, that it would have refused."""

    observe: Share = 0


class ApprovalRule(Rule):
    """A rule that asks for an approval of what another rule allows. `approval` names who gives it."""

    approval: Annotated[Word, Checked(check_name)] = "default"


class AllowRule(BaseRule):
    """An allow rule, with what it demands."""

    identity: Annotated[Word, one_of(*(tier.label for tier in Tier))] | None = None
    scopes: Annotated[tuple[Text, ...], BeforeValidator(some_of), SOME] | None = None
    roles: Annotated[tuple[Text, ...], BeforeValidator(some_of), SOME] | None = None
    max_amount: Price | None = None
    currency: Codes | None = None


class Rules(Model):
    """What is denied, what needs an approval and what is allowed; the first wins, and what no rule allows is denied.

    `risk` says what becomes of actions by their level of risk. `risk_lines` are the lines of its entries.
    """

    deny: Annotated[tuple[Annotated[Rule, BeforeValidator(_rule)], ...], BeforeValidator(list_of)] = ()
    require_approval: Annotated[
        tuple[Annotated[ApprovalRule, BeforeValidator(_rule)], ...],
        BeforeValidator(list_of),
    ] = ()
    allow: Annotated[tuple[Annotated[AllowRule, BeforeValidator(_rule)], ...], BeforeValidator(list_of)] = ()
    risk: Annotated[
        dict[Annotated[str, one_of(*RISKS)], Annotated[Word, one_of(*RISK_ACTIONS)]],
        Field(min_length=1),
    ] = Field(default_factory=dict)
    risk_lines: dict[str, int] = Field(default_factory=dict, exclude=True)


class ListEntry(Model):
    """A named list: its `values`, or a `file` with one a line. `normalize` says how values are made alike first."""

    line: Line = 0
    values: Annotated[tuple[Text, ...], BeforeValidator(list_of)] | None = None
    file: Text | None = None
    normalize: Annotated[Word, one_of(*NORMALIZE)] | None = None


class ClosedEntry(Model):
    """A closed period: its first and its last day, both within it."""

    from_: Annotated[Word, Checked(parse_day, examples=["2026-12-24"]), Field(alias="from")]
    to: Annotated[Word, Checked(parse_day, examples=["2026-12-27"])]
    reason: Annotated[Text, Field(max_length=300)] | None = None


class ScheduleEntry(Model):
    """Open hours and closed periods on the wall clock of `timezone`, by default that of the file."""

    open: Annotated[
        tuple[Annotated[Word, Checked(parse_hours, examples=["Mon-Fri 09:00-17:00"])], ...],
        BeforeValidator(_some),
        WithJsonSchema(_CODES_SCHEMA),
    ] = ()
    closed: Annotated[tuple[ClosedEntry, ...], BeforeValidator(some_of), SOME] = ()
    timezone: Annotated[Word, Checked(check_zone)] | None = None


class ActorEntry(Model):
    """What holds for one actor, or for all whose ids begin alike.

    `limits` maps limits that count by the actor to a cap of its own: money or a number of requests. They narrow; with
    `override` they may widen too. `enabled: false` refuses everything.
    """

    line: Line = 0
    enabled: Boolean = True
    override: Boolean = False
    limits: dict[Annotated[str, Checked(check_name)], Annotated[Text, Field(examples=["500 USD"])]] = Field(
        default_factory=dict,
    )
