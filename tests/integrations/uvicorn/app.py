"""The application of the server tests. Each act of a handler appends a line to the file that TEST_MARKS names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from afmiddleware_fastapi import install


def create() -> Starlette:
    """The fenced application."""
    marks = Path(os.environ["TEST_MARKS"])
    inside = 0
    most = 0
    together = asyncio.Event()
    go_on = asyncio.Event()

    def mark(text: str) -> None:
        with marks.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"most": most})

    async def ran(_request: Request) -> JSONResponse:
        go_on.set()
        return JSONResponse({"ok": True})

    async def pay(request: Request) -> JSONResponse:
        nonlocal inside, most
        payment: dict[str, Any] = await request.json()
        mark(f"pay {payment['amount']}")
        inside += 1
        most = max(most, inside)
        if payment.get("together"):
            # Stay until a second request is inside too, so that several are in flight for certain.
            if inside >= 2:
                together.set()
            await together.wait()
        inside -= 1
        if payment.get("fail"):
            msg = "as asked"
            raise RuntimeError(msg)
        return JSONResponse({"paid": payment["amount"]})

    async def stream(_request: Request) -> StreamingResponse:
        async def rows() -> AsyncIterator[bytes]:
            yield b"first\n"
            await go_on.wait()
            yield b"second\n"

        mark("stream")
        return StreamingResponse(rows(), media_type="text/plain")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        mark("talk")
        await socket.close()

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/ran", ran),
            Route("/pay", pay, methods=["POST"]),
            Route("/stream", stream),
            WebSocketRoute("/open", talk),
            WebSocketRoute("/closed", talk),
        ],
    )
    install(app, policy=os.environ["AFM_POLICY"])
    return app
