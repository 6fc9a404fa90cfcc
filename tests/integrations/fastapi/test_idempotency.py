"""Idempotency keys over HTTP: the handler runs once, and who asks again is answered the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: test
ledger: {ledger}
routes: [{{route: POST /pay, capability: payments.pay, amount: {{from: body.amount}}, idempotency: {wanted}}}]
rules: {{allow: [payments.pay]}}
limits: [{{name: cap, spend: 100 USD, window: total, per: global}}]
"""


class Shop:
    """A handler that counts how often it ran."""

    def __init__(self, folder: Path, answer: Callable[[int], Response], wanted: str, ledger: str) -> None:
        self.ran = 0
        self._answer = answer
        self.fence = Fence(load(POLICY.format(wanted=wanted, ledger=ledger)), base=folder)
        app = Starlette(routes=[Route("/pay", self.pay, methods=["POST"])])
        install(app, fence=self.fence)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://x")

    async def pay(self, _request: Request) -> Response:
        self.ran += 1
        return self._answer(self.ran)

    async def post(self, key: str | None = "k1", amount: str = "40.00") -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post("/pay", json={"amount": amount}, headers=headers)

    @property
    def counted(self) -> int:
        return self.fence.ledger.rows(["global"])["global"].cells["cap/total/USD"].total


def shop(
    folder: Path,
    answer: Callable[[int], Response] = lambda n: JSONResponse({"n": n}, 201, {"x-own": "yes", "set-cookie": "a=b"}),
    wanted: str = "optional",
    ledger: str = "memory",
) -> Shop:
    return Shop(folder, answer, wanted, ledger)


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
async def test_who_asks_again_gets_the_same_answer(tmp_path: Path, ledger: str) -> None:
    made = shop(tmp_path, ledger=ledger)
    first = await made.post()
    again = await made.post('"k1"')
    assert (first.status_code, first.json(), made.ran, made.counted) == (201, {"n": 1}, 1, 4000)
    assert (again.status_code, again.content) == (201, first.content)
    assert (again.headers["x-own"], again.headers["idempotency-replayed"]) == ("yes", "true")
    assert "set-cookie" not in again.headers
    assert (await made.post("k2")).json() == {"n": 2}
    assert (await made.post(None)).status_code == 403
    made.fence.close()


async def test_a_stranger_s_key_stands_for_its_request_alone(tmp_path: Path) -> None:
    made = shop(tmp_path)
    await made.post()
    other = await made.post(amount="41.00")
    # Behind one address there may be many, who know nothing of each other's keys.
    assert (other.status_code, other.json(), made.ran, made.counted) == (201, {"n": 2}, 2, 8100)


async def test_a_required_key_is_asked_for(tmp_path: Path) -> None:
    made = shop(tmp_path, wanted="required")
    missing = await made.post(None)
    assert (missing.status_code, missing.json()["code"], made.ran) == (400, "idempotency.missing", 0)
    assert (await made.post()).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, '"open', "\u00e9"])
async def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    made = shop(tmp_path)
    answer = await made.client.post(
        "/pay", json={"amount": "1.00"}, headers=[(b"idempotency-key", key.encode("latin-1"))]
    )
    assert (answer.status_code, answer.json()["code"], made.ran) == (400, "request.ambiguous", 0)


async def test_two_keys_are_ambiguous(tmp_path: Path) -> None:
    made = shop(tmp_path)
    answer = await made.client.post(
        "/pay", json={"amount": "1.00"}, headers=[("idempotency-key", "a"), ("idempotency-key", "b")]
    )
    assert (answer.status_code, made.ran) == (400, 0)


def failing(_ran: int) -> Response:
    raise ZeroDivisionError


def declined(_ran: int) -> Response:
    return JSONResponse({"why": "declined"}, 402)


async def test_what_failed_half_way_is_not_run_again(tmp_path: Path) -> None:
    made = shop(tmp_path, failing)
    assert (await made.post()).status_code == 500
    again = await made.post()
    assert (again.status_code, again.json()["code"], made.ran) == (409, "idempotency.outcome_unknown", 1)


async def test_a_declined_payment_is_answered_again_and_costs_nothing(tmp_path: Path) -> None:
    made = shop(tmp_path, declined)
    answers = [await made.post() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [402] * 3
    assert (made.ran, made.counted) == (1, 0)


@pytest.mark.parametrize("how", ["large", "file"])
async def test_an_answer_that_is_not_kept_is_not_made_again(tmp_path: Path, how: str) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"x" * 70_000)
    made = shop(tmp_path, lambda _: FileResponse(page) if how == "file" else Response(b"x" * 70_000))
    assert len((await made.post()).content) == 70_000
    again = await made.post()
    assert (again.status_code, again.json()["code"], made.ran) == (409, "idempotency.replay_unavailable", 1)


async def test_while_it_runs_it_is_not_run_again(tmp_path: Path) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    made = shop(tmp_path)
    plain = made.pay

    async def waiting(request: Request) -> Response:
        entered.set()
        await go_on.wait()
        return await plain(request)

    app = Starlette(routes=[Route("/pay", waiting, methods=["POST"])])
    install(app, fence=made.fence)
    made.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
    first = asyncio.create_task(made.post())
    await entered.wait()
    meanwhile = await made.post()
    go_on.set()
    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "idempotency.in_flight")
    assert meanwhile.headers["retry-after"] == "1"
    assert ((await first).status_code, (await made.post()).status_code, made.ran) == (201, 201, 1)
