"""Settling from the answer: it waits for the record, and leaves every other answer alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from afmiddleware import Fence, current_action
from afmiddleware.config.load import load
from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.pep.settle import ANSWER_CAP
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_fastapi import install

pytestmark = pytest.mark.anyio

POLICY = """
version: 1
service: test
ledger: {ledger}
routes:
  - {{route: POST /pay, capability: payments.pay, amount: {{from: body.amount}}, settle: {{from: response.body.total}}}}
  - {{route: POST /plain, capability: payments.pay, amount: {{from: body.amount}}}}
  - {{route: POST /rpc, protocol: jsonrpc, capability: "payments.{{method}}", methods: {{pay: {{amount: {{from: params.amount}}}}}}}}
rules: {{allow: [payments.*]}}
limits: [{{name: cap, spend: 100 USD, window: total, per: global}}]
"""


def made(handler: Any, folder: Path, ledger: str = "sqlite:///fence.db") -> tuple[Fence, Any]:
    fence = Fence(load(POLICY.format(ledger=ledger)), base=folder)
    app = Starlette(routes=[Route(f"/{path}", handler, methods=["POST"]) for path in ("pay", "plain", "rpc")])
    install(app, fence=fence)
    return fence, app


def outcomes(fence: Fence) -> list[tuple[str, str]]:
    bodies: list[Any] = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter(kind="outcome"))]
    return [(body["settlement"], body["captured"]) for body in bodies]


async def exchange(app: Any, path: str, content: bytes, sent: Any) -> None:
    """One request through the application; `sent` sees every message at the moment it goes out."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("203.0.113.9", 1),
    }
    messages = [{"type": "http.request", "body": content}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await anyio.sleep_forever()
        return {}

    await app(scope, receive, sent)


async def test_the_answer_is_not_whole_before_its_outcome_is_recorded(tmp_path: Path) -> None:
    async def pay(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for part in (b'{"to', b'tal":', b' "12.50"}'):
                yield part

        return StreamingResponse(parts(), media_type="application/json")

    fence, app = made(pay, tmp_path)
    body, seen = b"", []

    async def sent(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"")
        seen.append((message.get("body"), message.get("more_body", False), outcomes(fence)))

    await exchange(app, "/pay", b'{"amount": 40}', sent)
    assert body == b'{"total": "12.50"}'
    assert all(not recorded for _, more, recorded in seen if more)
    assert seen[-1][1:] == (False, [("capture", "1250")])
    fence.close()


async def test_a_ledger_that_fails_keeps_the_money_and_lets_the_answer_go(tmp_path: Path) -> None:
    async def pay(_request: Request) -> JSONResponse:
        async def fails(_item: object) -> None:
            raise LedgerUnavailableError("down")

        fence.ledger.acommit = fails  # type: ignore[method-assign,assignment]
        return JSONResponse({"total": "12.50"})

    fence, app = made(pay, tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post("/pay", json={"amount": 40})
    assert answer.json() == {"total": "12.50"}
    assert [hold.amount for _, hold in fence.ledger.holds()] == [4000]
    fence.close()


@pytest.mark.parametrize(
    ("kind", "size", "captured"),
    [
        ("application/json", 10, "1250"),
        ("application/vnd.shop+json; charset=utf-8", 10, "1250"),
        ("application/json", ANSWER_CAP, "4000"),
        ("text/event-stream", 10, "4000"),
        ("application/octet-stream", 10, "4000"),
    ],
)
async def test_what_is_not_json_or_too_large_goes_by_untouched(
    kind: str, size: int, captured: str, tmp_path: Path
) -> None:
    whole = json.dumps({"total": "12.50", "filler": "x" * size}).encode()

    async def pay(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 65536):
                yield whole[start : start + 65536]

        return StreamingResponse(parts(), media_type=kind)

    fence, app = made(pay, tmp_path, "memory")
    received: list[bytes] = []

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.body":
            received.append(message["body"])

    await exchange(app, "/pay", b'{"amount": 40}', sent)
    assert b"".join(received) == whole
    assert len(received) == -(-len(whole) // 65536) + 1
    assert outcomes(fence) == [("capture", captured)]


async def test_what_the_handler_says_stands_above_its_answer(tmp_path: Path) -> None:
    async def pay(_request: Request) -> JSONResponse:
        current_action().settle("7")
        return JSONResponse({"total": "12.50"})

    fence, app = made(pay, tmp_path, "memory")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await client.post("/pay", json={"amount": 40})
    assert outcomes(fence) == [("capture", "700")]


async def test_a_handler_settles_each_call_of_a_batch(tmp_path: Path) -> None:
    async def rpc(_request: Request) -> JSONResponse:
        with pytest.raises(AFError):
            current_action().settle("1")
        with pytest.raises(AFError):
            current_action().release()
        for call in current_action().calls:
            if call.call_id == "a":
                call.settle("1.50")
            else:
                call.release()
        return JSONResponse([{"jsonrpc": "2.0", "id": one, "result": {}} for one in ("a", "b")])

    fence, app = made(rpc, tmp_path, "memory")
    calls = [{"jsonrpc": "2.0", "id": one, "method": "pay", "params": {"amount": 20}} for one in ("a", "b")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post("/rpc", json=calls)).status_code == 200
    assert outcomes(fence) == [("capture", "150"), ("release", "0")]


async def test_a_client_that_leaves_mid_answer_leaves_no_call_without_an_end(tmp_path: Path) -> None:
    async def rpc(_request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b'data: {"jsonrpc": "2.0", "id": "a", "result": {}}\n\n'
            raise ConnectionError

        return StreamingResponse(events(), media_type="text/event-stream")

    fence, app = made(rpc, tmp_path, "memory")
    calls = [{"jsonrpc": "2.0", "id": one, "method": "pay", "params": {"amount": 20}} for one in ("a", "b")]

    async def sent(_message: Any) -> None:
        return None

    with pytest.raises(ConnectionError):
        await exchange(app, "/rpc", json.dumps(calls).encode(), sent)
    assert outcomes(fence) == [("capture", "2000"), ("unknown", "2000")]


@pytest.mark.parametrize(("path", "captured"), [("/plain", "4000"), ("/pay", "1250")])
async def test_a_server_that_never_takes_the_answer_leaves_nothing_without_an_end(
    path: str, captured: str, tmp_path: Path
) -> None:
    # hypercorn does so over HTTP/2 when the client has left.
    async def pay(_request: Request) -> JSONResponse:
        return JSONResponse({"total": "12.50"})

    fence, app = made(pay, tmp_path, "memory")
    said = anyio.Event()

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.body":
            said.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange, app, path, b'{"amount": 40}', sent)
        await said.wait()
        assert outcomes(fence) == [("capture", captured)]
        tasks.cancel_scope.cancel()
    assert outcomes(fence) == [("capture", captured)]
