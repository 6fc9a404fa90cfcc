"""What a mapping in fence.yaml may say: where the parts of an action are found, in a request, a call or the answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from afmiddleware.config.texts import Checked, Text, Word, check_currency, one_of, some_of
from afmiddleware.grammar.capability import check_capability
from afmiddleware.grammar.paths import CALL_KINDS, parse_source, parse_template

OUTCOMES: Final = {"4xx": ("release", "keep"), "5xx": ("unknown", "keep")}
"""What may become of the money by the class of the answer's status, the usual first."""


class Model(BaseModel):
    """The base of everything in the file: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


Line = Annotated[int, Field(exclude=True)]
"""The line in the file, from 1; the loader fills it in."""


Price = Annotated[Text, Field(examples=["500 USD"])]
_SOURCES_SCHEMA: Final = {
    "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
}


class From(Model):
    """A value taken from the request."""

    from_: Annotated[Word, Checked(parse_source, examples=["body.price", "query.amount"]), Field(alias="from")]


Source = Annotated[Word, Checked(parse_source, examples=["body.price", "query.amount"])]


def _one_or_more(value: Any) -> Any:
    return some_of([value] if isinstance(value, str) else value)


class AmountMap(Model):
    """An amount worked out of the request, by `from`, `sum`, `table` with `prices`, or `price` with `times`.

    `times` is a whole number that multiplies it. `unit`: major units (12.50) or minor ones (1250).
    """

    from_: Annotated[Source | None, Field(alias="from")] = None
    sum: Annotated[tuple[Source, ...], BeforeValidator(_one_or_more), WithJsonSchema(_SOURCES_SCHEMA)] | None = None
    table: Source | None = None
    prices: Annotated[dict[Text, Text], Field(min_length=1)] | None = None
    price: Price | None = None
    times: Source | None = None
    unit: Annotated[Word, one_of("major", "minor")] = "major"


def shape_of(value: Any) -> str:
    """Which of two an entry is: a map, or a text."""
    return "map" if isinstance(value, dict | BaseModel) else "text"


Amount = Annotated[Annotated[Price, Tag("text")] | Annotated[AmountMap, Tag("map")], Discriminator(shape_of)]
Code = Annotated[
    Annotated[Word, Checked(check_currency), Tag("text")] | Annotated[From, Tag("map")],
    Discriminator(shape_of),
]
Value = Annotated[
    Annotated[Text, Checked(parse_template), Tag("text")] | Annotated[From, Tag("map")],
    Discriminator(shape_of),
]


def _on_outcome(value: Any) -> Any:
    chosen = dict.fromkeys(OUTCOMES, "keep") if value == "keep" else value
    if not isinstance(chosen, dict) or not chosen:
        msg = "this is not an outcome; write keep, or a map such as {4xx: release, 5xx: unknown}"
        raise ValueError(msg)
    for status, what in chosen.items():
        if status not in OUTCOMES:
            msg = f"{status!r} is not a class of statuses that can be chosen for; use 4xx or 5xx"
            raise ValueError(msg)
        if what not in OUTCOMES[status]:
            msg = f"{what!r} is not known for {status}; use {' or '.join(OUTCOMES[status])}"
            raise ValueError(msg)
    return chosen


_OUTCOME_SCHEMA: Final = {
    "anyOf": [
        {"const": "keep"},
        {
            "type": "object",
            "properties": {status: {"enum": list(words)} for status, words in OUTCOMES.items()},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
}


def _parse_in_answer(value: str) -> None:
    parse_source(value, ("response.body", "result"))


class AnswerFrom(Model):
    """A value taken from the answer."""

    from_: Annotated[
        Word,
        Checked(_parse_in_answer, examples=["response.body.total", "result.total"]),
        Field(alias="from"),
    ]


class Settle(AnswerFrom):
    """What was really spent, taken from the answer; in another currency than what was reserved it is not read."""

    unit: Annotated[Word, one_of("major", "minor")] = "major"
    currency: AnswerFrom | None = None


def _parse_in_body(value: str) -> None:
    source = parse_source(value, ("response.body",))
    if source.many:
        msg = f"{source.label} names every place of a list, which is no reference; name one place"
        raise ValueError(msg)


class ReferenceEntry(Model):
    """What a later refund calls the action by, taken from the answer."""

    from_: Annotated[Word, Checked(_parse_in_body, examples=["response.body.id"]), Field(alias="from")]


def _source_or_from(value: Any) -> Any:
    return value["from"] if isinstance(value, dict) and set(value) == {"from"} else value


class RefundsEntry(Model):
    """Of which earlier action of the same caller the route gives back what was captured: where its reference stands."""

    of: Annotated[Source, BeforeValidator(_source_or_from), WithJsonSchema({"type": "string"})]


OnOutcome = Annotated[dict[str, str], BeforeValidator(_on_outcome), WithJsonSchema(_OUTCOME_SCHEMA)]


def _parse_in_call(value: str) -> None:
    parse_source(value, CALL_KINDS)


def _parse_template_in_call(value: str) -> None:
    parse_template(value, CALL_KINDS)


CallSource = Annotated[Word, Checked(_parse_in_call, examples=["params.amount", "arguments.price"])]


class CallFrom(Model):
    """A value taken from a call."""

    from_: Annotated[CallSource, Field(alias="from")]


class CallAmountMap(Model):
    """An amount worked out of a call, by `from`, `sum`, `table` with `prices`, or `price` with `times`."""

    from_: Annotated[CallSource | None, Field(alias="from")] = None
    sum: Annotated[tuple[CallSource, ...], BeforeValidator(_one_or_more), WithJsonSchema(_SOURCES_SCHEMA)] | None = None
    table: CallSource | None = None
    prices: Annotated[dict[Text, Text], Field(min_length=1)] | None = None
    price: Price | None = None
    times: CallSource | None = None
    unit: Annotated[Word, one_of("major", "minor")] = "major"


CallAmount = Annotated[
    Annotated[Price, Tag("text")] | Annotated[CallAmountMap, Tag("map")],
    Discriminator(shape_of),
]
CallCode = Annotated[
    Annotated[Word, Checked(check_currency), Tag("text")] | Annotated[CallFrom, Tag("map")],
    Discriminator(shape_of),
]
CallValue = Annotated[
    Annotated[Text, Checked(_parse_template_in_call), Tag("text")] | Annotated[CallFrom, Tag("map")],
    Discriminator(shape_of),
]


class CallEntry(Model):
    """One method or tool of a route with a protocol: what it is, and where the parts of its action are found."""

    capability: Annotated[Word, Checked(check_capability)] | None = None
    resource: CallValue | None = None
    amount: CallAmount | None = None
    currency: CallCode | None = None
    recipient: CallValue | None = None
    category: CallValue | None = None
    network: CallValue | None = None
    settle: Settle | None = None
    on_outcome: OnOutcome | None = None


def check_route_capability(value: str) -> None:
    """A capability, of which one segment may be `{method}` or `{tool}`."""
    segments = value.split(".")
    held = [at for at, segment in enumerate(segments) if segment in {"{method}", "{tool}"}]
    if len(held) == 1:
        segments[held[0]] = "x"
    check_capability(".".join(segments))
