"""What the policy reads and a handler does not take, by what it declares, is found by the audit and stops nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Form, Query, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import (
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi.audit import listing


class Item(BaseModel):
    price: str
    count: int = 1


class Order(BaseModel):
    amount: str
    items: list[Item] = []
    note: str | None = None
    more: dict[str, Any] = {}
    anything: Any = None
    card: Annotated[Item | None, Field(alias="Card")] = None
    deep: str = Field("", validation_alias=AliasPath("a", "b"))


class Lax(BaseModel):
    model_config = ConfigDict(extra="allow")
    amount: str


class Changed(BaseModel):
    amount: str

    @model_validator(mode="before")
    @classmethod
    def unwrap(cls, sent: Any) -> Any:
        return sent["inner"]


class ChangedItem(BaseModel):
    item: Item

    @field_validator("item", mode="before")
    @classmethod
    def unwrap(cls, sent: Any) -> Any:
        return sent["inner"]


class Checked(BaseModel):
    amount: str

    @model_validator(mode="after")
    def fine(self) -> Checked:
        return self


Kind = TypeVar("Kind")


class Paged(BaseModel, Generic[Kind]):
    item: Kind


class Orders(RootModel[list[Order]]):
    pass


@dataclasses.dataclass
class Plain:
    amount: str


class Typed(TypedDict):
    amount: str


class Filter(BaseModel):
    amount: str = ""


async def order(sent: Order) -> None: ...


async def listed(sent: list[Order]) -> None: ...


async def rooted(sent: Orders) -> None: ...


async def either(sent: Order | Item) -> None: ...


async def paged(sent: Paged[Item]) -> None: ...


async def plain(sent: Plain) -> None: ...


async def typed(sent: Typed) -> None: ...


async def lax(sent: Lax) -> None: ...


async def changed(sent: Changed) -> None: ...


async def changed_item(sent: ChangedItem) -> None: ...


async def changed_by_type(sent: Annotated[Item, BeforeValidator(dict)]) -> None: ...


async def checked(sent: Checked) -> None: ...


async def mapping(sent: dict[str, str]) -> None: ...


async def embedded(sent: Annotated[Item, Body(embed=True)]) -> None: ...


async def two(first: Item, second: Item) -> None: ...


async def nothing() -> None: ...


async def whole(request: Request) -> None: ...


async def beside(sent: Order, request: Request) -> None: ...


def reads_request(request: Request) -> None: ...


def reads_member(amount: Annotated[str, Body(embed=True)]) -> None: ...


async def depends(sent: Order, _: Annotated[None, Depends(reads_request)]) -> None: ...


async def depends_on_member(_: Annotated[None, Depends(reads_member)]) -> None: ...


async def secured(sent: Order, _: Annotated[str, Security(APIKeyHeader(name="x-key"))]) -> None: ...


async def queried(amount: str, limit: int = 5) -> None: ...


async def filtered(asked: Annotated[Filter, Query()]) -> None: ...


async def formed(amount: Annotated[str, Form()]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "read", "hint"),
    [
        (order, "body.amount", None),
        (order, "body.amuont", "did you mean body.amount?"),
        (order, "body.zzz", "correct the policy, or let the handler take it"),
        (order, "body.note.x", None),
        (order, "body.items[0].price", None),
        (order, "body.items[0].prise", "did you mean body.items[0].price?"),
        (order, "body.items[*].prise", "did you mean body.items[*].price?"),
        (order, "body.more.x", None),
        (order, "body.anything.x", None),
        (order, "body.Card.price", None),
        (order, "body.Card.prise", "did you mean body.Card.price?"),
        (order, "body.a.b", None),
        (order, "query.amount", "correct the policy, or let the handler take it"),
        (order, "header.x-amount", None),
        (listed, "body[0].amount", None),
        (listed, "body[0].amuont", "did you mean body[0].amount?"),
        (rooted, "body[0].amount", None),
        (rooted, "body[0].amuont", "did you mean body[0].amount?"),
        (either, "body.count", None),
        (either, "body.prise", "did you mean body.price?"),
        (paged, "body.item.price", None),
        (paged, "body.item.prise", "did you mean body.item.price?"),
        (plain, "body.amount", None),
        (plain, "body.amuont", "did you mean body.amount?"),
        (typed, "body.amount", None),
        (typed, "body.amuont", "did you mean body.amount?"),
        (lax, "body.prise", None),
        (changed, "body.inner.amount", None),
        (changed_item, "body.item.inner.price", None),
        (changed_by_type, "body.inner", None),
        (checked, "body.amuont", "did you mean body.amount?"),
        (mapping, "body.prise", None),
        (embedded, "body.sent.price", None),
        (embedded, "body.sent.prise", "did you mean body.sent.price?"),
        (embedded, "body.snet", "did you mean body.sent?"),
        (two, "body.second.price", None),
        (two, "body.second.prise", "did you mean body.second.price?"),
        (two, "body.secnod", "did you mean body.second?"),
        (nothing, "body.amount", "correct the policy, or let the handler take it"),
        (whole, "body.amount", None),
        (beside, "body.amuont", None),
        (depends, "body.amuont", None),
        (depends_on_member, "body.amount", None),
        (depends_on_member, "body.amuont", "did you mean body.amount?"),
        (secured, "body.amuont", "did you mean body.amount?"),
        (queried, "query.amount", None),
        (queried, "query.amuont", "did you mean query.amount?"),
        (queried, "body.amount", "correct the policy, or let the handler take it"),
        (filtered, "query.amount", None),
        (filtered, "query.amuont", "did you mean query.amount?"),
        (formed, "form.amount", None),
        (formed, "form.amuont", "did you mean form.amount?"),
        (formed, "body.amount", "correct the policy, or let the handler take it"),
    ],
)
def test_what_a_handler_does_not_take_is_found(handler: Callable[..., Any], read: str, hint: str | None) -> None:
    # Under a router with a prefix, as most handlers are.
    made, router = FastAPI(), APIRouter(prefix="/v1")
    router.post("/pay")(handler)
    made.include_router(router)
    policy = f"""version: 1
service: s
ledger: memory
routes: [{{route: POST /v1/pay, capability: c.pay, recipient: {{from: "{read}"}}}}]
rules: {{allow: ["c.pay"]}}
"""
    fence = Fence(load(policy), clock=FrozenClock())
    found = [one for one in fence.audit(listing(made)).findings if one.id == "coverage.unread"]
    if hint is None:
        assert found == []
        return
    (one,) = found
    name = f"{__name__}.{handler.__name__}"
    assert one.text == f"POST /v1/pay reads {read}, which {name} does not take; {hint}"
    assert "test_unread.py:" in one.where
