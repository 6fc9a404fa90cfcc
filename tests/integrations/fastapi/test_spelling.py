"""What the policy reads of a query, a header, a form or a body is what the handler gets, and otherwise nothing runs."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, NotRequired

import httpx
import pytest
from fastapi import Body, Depends, FastAPI, Form, Header, Query
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel, StringConstraints
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install
from afmiddleware_fastapi.audit import listing

pytestmark = [
    pytest.mark.anyio,
    # The oldest FastAPI hands pydantic aliases in a way that a newer one warns of.
    pytest.mark.filterwarnings("ignore:The '[a-z_]*alias' attribute"),
]

PLACES = {
    "query": "query.to",
    "alias": "query.to-whom",
    "model": "query.to",
    "header": "header.x-to",
    "flat": "body.to",
    "named": "body.whom",
    "embedded": "body.to",
    "two": "body.payment.to",
    "nested": "body.payee.number",
    "listed": "body.payees[0].number",
    "map": "body.payees.first",
    "maybe": "body.to",
    "lower": "body.to",
    "trimmed": "body.to",
    "below": "query.to",
    "text": "body.to",
    "capital": "header.x-to",
    "headers": "header.x-to",
    "dataclass": "body.to",
    "typeddict": "body.payee.number",
    "root": "body.to",
    "camel": "body.toWhom",
}
POLICY = "version: 1\nservice: s\nledger: memory\nroutes:\n" + "".join(
    f'  - {{route: "POST /{name}", capability: c.pay, recipient: {{from: "{place}"}}}}\n'
    for name, place in PLACES.items()
)
RULES = """rules:
  deny: [{capability: c.pay, when: {recipient: {in: ["7", "x"]}}}]
  allow: [c.pay]
"""


class Payment(BaseModel):
    to: int


class Named(BaseModel):
    number: int = Field(alias="whom")


class Payee(BaseModel):
    number: int


class Nested(BaseModel):
    payee: Payee


class Listed(BaseModel):
    payees: list[Payee]


class Mapped(BaseModel):
    payees: dict[str, int]


class Maybe(BaseModel):
    to: int | None = None


class Lower(BaseModel):
    to: Annotated[str, StringConstraints(to_lower=True)]


class Trimmed(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    to: str


class Text(BaseModel):
    to: str


class Headers(BaseModel):
    x_to: int


@dataclasses.dataclass
class Record:
    to: int


class Numbered(TypedDict):
    number: NotRequired[int]


class Document(TypedDict):
    payee: Numbered


class Root(RootModel[Payment]):
    pass


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    to_whom: int


class Choices(BaseModel):
    amount: str = Field(validation_alias=AliasChoices("amt", "amount", AliasPath("sums", 0)))


class Renamed(BaseModel):
    amount: str = Field(alias="amt")


class Outer(BaseModel):
    inner: Choices


def whom(to: int) -> int:
    return to


def app() -> FastAPI:  # noqa: C901 (a handler for each place)
    made = FastAPI()

    def acted(value: object) -> dict[str, Any]:
        event: Any = current_action().event
        return {"acted": str(value), "judged": event.recipient}

    @made.post("/query")
    async def query(to: int) -> Any:
        return acted(to)

    @made.post("/alias")
    async def alias(to: Annotated[int, Query(alias="to-whom")]) -> Any:
        return acted(to)

    @made.post("/model")
    async def model(sent: Annotated[Payment, Query()]) -> Any:
        return acted(sent.to)

    @made.post("/header")
    async def header(x_to: Annotated[int, Header()]) -> Any:
        return acted(x_to)

    @made.post("/flat")
    async def flat(payment: Payment) -> Any:
        return acted(payment.to)

    @made.post("/named")
    async def named(payment: Named) -> Any:
        return acted(payment.number)

    @made.post("/embedded")
    async def embedded(to: Annotated[int, Body(embed=True)]) -> Any:
        return acted(to)

    @made.post("/two")
    async def two(payment: Payment, note: Annotated[str, Body()] = "") -> Any:
        return acted(payment.to)

    @made.post("/nested")
    async def nested(payment: Nested) -> Any:
        return acted(payment.payee.number)

    @made.post("/listed")
    async def listed(payment: Listed) -> Any:
        return acted(payment.payees[0].number)

    @made.post("/map")
    async def mapped(payment: Mapped) -> Any:
        return acted(payment.payees["first"])

    @made.post("/maybe")
    async def maybe(payment: Maybe) -> Any:
        return acted(payment.to)

    @made.post("/lower")
    async def lower(payment: Lower) -> Any:
        return acted(payment.to)

    @made.post("/trimmed")
    async def trimmed(payment: Trimmed) -> Any:
        return acted(payment.to)

    @made.post("/below")
    async def below(number: Annotated[int, Depends(whom)]) -> Any:
        return acted(number)

    @made.post("/text")
    async def text(payment: Text) -> Any:
        return acted(payment.to)

    @made.post("/capital")
    async def capital(to: Annotated[int, Header(alias="X-To")]) -> Any:
        return acted(to)

    @made.post("/headers")
    async def headers(sent: Annotated[Headers, Header()]) -> Any:
        return acted(sent.x_to)

    @made.post("/dataclass")
    async def record(payment: Record) -> Any:
        return acted(payment.to)

    @made.post("/typeddict")
    async def typeddict(payment: Document) -> Any:
        return acted(payment["payee"].get("number"))

    @made.post("/root")
    async def root(payment: Root) -> Any:
        return acted(payment.root.to)

    @made.post("/camel")
    async def camel(payment: Camel) -> Any:
        return acted(payment.to_whom)

    install(made, fence=Fence(load(POLICY + RULES), clock=FrozenClock()))
    return made


def sent(place: str, value: object) -> dict[str, Any]:
    """The part of a request that holds `value` in `place`."""
    kind, _, rest = place.partition(".")
    if kind == "query":
        return {"params": {rest: str(value)}}
    if kind == "header":
        return {"headers": {rest: str(value)}}
    document: Any = value
    for step in reversed(rest.replace("[0]", ".[").split(".")):
        document = [document] if step == "[" else {step: document}
    return {"json": document}


async def post(name: str, value: object) -> httpx.Response:
    transport = httpx.ASGITransport(app())
    async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
        return await client.post(f"/{name}", **sent(PLACES[name], value))


NUMBERS = [name for name in PLACES if name not in ("lower", "trimmed", "text")]


@pytest.mark.parametrize("name", NUMBERS)
async def test_a_number_in_its_own_spelling_is_judged_and_acted_on(name: str) -> None:
    answer = await post(name, "8")
    assert (answer.status_code, answer.json()) == (200, {"acted": "8", "judged": "8"})
    assert (await post(name, "7")).json()["code"] == "policy.denied"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("other", ["007", "+7", "7.0", "7_7", "\uff17"])
async def test_no_other_spelling_of_it_reaches_the_handler(name: str, other: str) -> None:
    if PLACES[name].startswith("header") and not other.isascii():
        return
    answer = await post(name, other)
    assert answer.status_code == 422
    assert "acted" not in answer.json()


@pytest.mark.parametrize("name", [name for name in NUMBERS if PLACES[name].startswith("body")])
async def test_a_json_number_is_its_own_spelling(name: str) -> None:
    assert (await post(name, 8)).json() == {"acted": "8", "judged": "8"}
    assert (await post(name, 7)).json()["code"] == "policy.denied"


async def test_texts_that_a_model_changes_are_read_as_it_reads_them() -> None:
    assert (await post("lower", "y")).json() == {"acted": "y", "judged": "y"}
    assert [(await post("lower", text)).status_code for text in ("x", "X", "Y")] == [403, 422, 422]
    assert (await post("trimmed", "y")).json() == {"acted": "y", "judged": "y"}
    assert [(await post("trimmed", text)).status_code for text in ("x", " x", "x ")] == [403, 422, 422]


async def test_a_plain_text_is_left_alone() -> None:
    for text in ("007", " y", "Y"):
        assert (await post("text", text)).json() == {"acted": text, "judged": text}


async def by_choice(payment: Choices) -> None:
    del payment


async def by_alias(payment: Renamed) -> None:
    del payment


async def by_name(payment: Camel) -> None:
    del payment


async def embedded(payment: Annotated[Outer, Body(embed=True)]) -> None:
    del payment


async def in_query(amount: Annotated[str, Query(alias="amt")]) -> None:
    del amount


async def in_header(x_amount: Annotated[str, Header(alias="X-Amt")]) -> None:
    del x_amount


async def in_form(sent: Annotated[Choices, Form()]) -> None:
    del sent


async def in_two(first: Renamed, amount: Annotated[str, Body()]) -> None:
    del first, amount


@pytest.mark.parametrize(
    ("handler", "read", "counts"),
    [
        (by_choice, "body.amount", "body.amt"),
        (by_choice, "body.amt", ""),
        (by_choice, "body.sums[0]", "body.amt"),
        (by_choice, "body.other", ""),
        (by_alias, "body.amount", "body.amt"),
        (by_alias, "body.amt", ""),
        (by_name, "body.to_whom", "body.toWhom"),
        (by_name, "body.toWhom", ""),
        (embedded, "body.payment.inner.amount", "body.payment.inner.amt"),
        (embedded, "body.payment.inner.amt", ""),
        (in_query, "query.amount", "query.amt"),
        (in_query, "query.amt", ""),
        (in_header, "header.x-amount", "header.x-amt"),
        (in_header, "header.x-amt", ""),
        (in_form, "form.amount", "form.amt"),
        (in_form, "form.amt", ""),
        (in_two, "body.amount", ""),
        (in_two, "body.first.amount", "body.first.amt"),
    ],
)
async def test_a_policy_that_reads_what_does_not_count_stops_the_start(handler: Any, read: str, counts: str) -> None:
    # {"amt": 5000, "amount": 1} would be judged as 1, and the handler would act on 5000.
    made = FastAPI()
    made.post("/pay")(handler)
    policy = f"""version: 1
service: s
ledger: memory
currency: USD
routes: [{{route: POST /pay, capability: c.pay, recipient: {{from: "{read}"}}}}]
"""
    fence = Fence(load(policy + RULES), clock=FrozenClock())
    if not counts:
        fence.adopt(listing(made))
        return
    with pytest.raises(ConfigError, match=f"POST /pay reads {re.escape(read)}.*{re.escape(counts)}"):
        fence.adopt(listing(made))
