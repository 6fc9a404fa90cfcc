"""What the policy reads of a path is what the handler gets, and otherwise nothing runs."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi import Path as InPath
from pydantic import StringConstraints

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio


class Color(enum.Enum):
    RED = "red"


KINDS: dict[str, Any] = {
    "int": int,
    "positive": Annotated[int, InPath(gt=0)],
    "uuid": UUID,
    "bool": bool,
    "date": dt.date,
    "float": float,
    "color": Color,
    "upper": Annotated[str, StringConstraints(to_upper=True)],
    "text": str,
}
POLICY = "version: 1\nservice: s\nledger: memory\nroutes:\n" + "".join(
    f'  - {{route: "GET /{kind}/{{x}}", capability: c.read, resource: "x:{{path.x}}"}}\n' for kind in KINDS
)
REST = """  - {route: "GET /unread/{x}", capability: c.read}
  - {route: "GET /included/{x}", capability: c.read, resource: "x:{path.x}"}
rules:
  deny: [{capability: c.read, when: {resource: {eq: "x:7"}}}]
  allow: [c.read]
"""


async def answer(x: Any) -> dict[str, str]:
    event: Any = current_action().event
    return {"acted": str(x.value if isinstance(x, enum.Enum) else x), "judged": str(event.resource)}


def handler(kind: Any) -> Any:
    async def run(x: Any) -> dict[str, str]:
        return await answer(x)

    run.__annotations__["x"] = kind
    return run


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI()
    for name, kind in KINDS.items():
        made.add_api_route(f"/{name}/{{x}}", handler(kind))
    made.add_api_route("/unread/{x}", handler(int))

    def numbered(x: int) -> None:
        assert isinstance(x, int)

    router = APIRouter(dependencies=[Depends(numbered)])
    router.add_api_route("/{x}", handler(str))
    made.include_router(router, prefix="/included")
    install(made, fence=Fence(load(POLICY + REST), clock=FrozenClock()))
    return made


async def ask(app: Any, target: str) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as client:
        found = await client.get(target)
    return found.status_code, found.json()


UUID_TEXT = "12345678-1234-5678-1234-56781234abcd"


@pytest.mark.parametrize(
    "target",
    ["/int/8", "/int/-8", "/int/0", "/positive/8", f"/uuid/{UUID_TEXT}", "/bool/true", "/bool/false",
     "/date/2026-11-21", "/float/1.5", "/color/red", "/upper/ABC", "/text/007", "/text/ABC", "/included/8"],
)  # fmt: skip
async def test_the_values_own_spelling_is_judged_as_it_acts(app: FastAPI, target: str) -> None:
    status, told = await ask(app, target)
    assert status == 200
    assert told["judged"] == f"x:{target.rpartition('/')[2]}"
    assert told["acted"].lower() == target.rpartition("/")[2].lower()


@pytest.mark.parametrize(
    "target",
    ["/int/007", "/int/+7", "/int/7.0", "/int/%207", "/positive/07", f"/uuid/{UUID_TEXT.upper()}",
     f"/uuid/{UUID_TEXT.replace('-', '')}", "/bool/1", "/bool/on", "/bool/TRUE", "/float/1.50", "/float/1e3",
     "/float/8", "/upper/abc", "/included/007"],
)  # fmt: skip
async def test_another_spelling_of_a_value_does_not_run(app: FastAPI, target: str) -> None:
    status, told = await ask(app, target)
    assert (status, told.get("code")) == (422, "amount.unresolvable")


async def test_a_denied_resource_stays_denied(app: FastAPI) -> None:
    assert (await ask(app, "/int/7"))[1]["code"] == "policy.denied"


async def test_a_value_that_no_rule_reads_is_the_handlers_business(app: FastAPI) -> None:
    assert (await ask(app, "/unread/007"))[1] == {"acted": "7", "judged": "None"}


async def test_what_the_framework_refuses_is_its_own_refusal(app: FastAPI) -> None:
    status, told = await ask(app, "/int/seven")
    assert (status, "detail" in told) == (422, True)
    assert "code" not in told
