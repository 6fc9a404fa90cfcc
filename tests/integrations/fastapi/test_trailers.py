"""Headers that come after the decision: uvicorn with httptools adds the trailers of a chunked body to the scope's list."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware_fastapi import install
from tests.integrations.fastapi.fenced import scope_of

POLICY = """
version: 1
service: trailers
ledger: memory
routes:
  - {route: POST /tips, capability: pay.tip, amount: {from: header.x-amount}}
rules: {allow: [pay.*]}
"""


@pytest.mark.parametrize("generic", [False, True])
def test_a_handler_never_sees_headers_that_were_not_judged(generic: bool) -> None:
    seen: list[list[str]] = []

    async def tip(request: Request) -> JSONResponse:
        await request.body()
        seen.append(Request(request.scope).headers.getlist("x-amount"))
        return JSONResponse({})

    app: Any = Starlette(routes=[Route("/tips", tip, methods=["POST"])])
    fence = Fence(load(POLICY, "trailers.yaml"))
    if generic:
        app = FenceMiddleware(app, fence=fence)
    else:
        install(app, fence=fence)
    scope = scope_of("POST", "/tips", headers=[(b"host", b"api.example.com"), (b"x-amount", b"1")])

    async def receive() -> Any:
        scope["headers"].append((b"x-amount", b"5000"))
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        await anyio.lowlevel.checkpoint()

    anyio.run(app, scope, receive, send)
    assert seen == [["1"]]
