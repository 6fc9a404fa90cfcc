"""An application that gets its fence by `add_middleware`, as the documentation says: Starlette makes it at the start."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from afmiddleware_fastapi import FenceMiddleware


def mark(text: str) -> None:
    Path(os.environ["TEST_MARKS"]).write_text(text, encoding="utf-8")


async def ran(_request: Request) -> PlainTextResponse:
    mark("ran")
    return PlainTextResponse("ran")


async def talk(socket: WebSocket) -> None:
    mark("talked")
    await socket.accept()


app = Starlette(routes=[Route("/health", ran), WebSocketRoute("/open", talk)])
app.add_middleware(FenceMiddleware, policy=os.environ["TEST_POLICY"])
