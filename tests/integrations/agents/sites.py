"""One small site in every framework, behind one fence: what a caller sends, and what the handler got."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import httpx
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path
from fastapi import FastAPI, Request
from flask import Flask
from flask import request as flask_request

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from afmiddleware_fastapi import install
from afmiddleware_flask import AgentFence
from tests.integrations.django.project import project

API = "https://api.example.com"
PATHS = ("pay", "read", "report", "drop")
ROUTES = """
routes:
  - {route: POST /pay, capability: shop.pay, amount: {from: body.amount, unit: major}}
  - {route: GET /read, capability: shop.read}
  - {route: GET /report, capability: shop.report, amount: 0.02 USD}
  - {route: DELETE /drop, capability: shop.drop}
"""
STACKS = ("fastapi", "flask", "django sync", "django async")


class Site:
    """A fence and an application behind it. `ran` holds the bodies that handlers got."""

    def __init__(self, stack: str, policy: str, base: Path, ledger: str = "memory", peer: str = "203.0.113.9") -> None:
        self.clock = FrozenClock()
        text = f"version: 1\nservice: agents\nledger: {ledger}\n{policy}"
        self.fence = Fence(load(text), base=base, clock=self.clock)
        self.ran: list[bytes] = []
        self.peer = peer
        self._stack = stack

    @property
    def now(self) -> int:
        return self.clock() // 1_000_000

    def send(
        self,
        method: str,
        where: str,
        headers: Any = (),
        body: bytes = b"",
        *,
        announced: bool = True,
    ) -> httpx.Response:
        lines = [*headers, *([("content-type", "application/json")] if body else [])]
        asked = httpx.Request(
            method, f"{API}{where}", headers=[(name.lower(), value) for name, value in lines], content=body
        )
        if not announced:
            del asked.headers["content-length"]
        if self._stack == "fastapi":
            return over_asgi(self._fastapi, asked, self.peer)
        if self._stack == "flask":
            return over_wsgi(self._flask, asked, self.peer)
        sync = self._stack == "django sync"
        with project([path(one, self._view if sync else self._aview) for one in PATHS], self.fence):
            handler: Any = WSGIHandler() if sync else ASGIHandler()
            return (over_wsgi if sync else over_asgi)(handler, asked, self.peer)

    def decided(self) -> list[Any]:
        """The decisions in the log, each with the private values at hand."""
        found = []
        for one in self.fence.ledger.receipts(Filter()):
            body: Any = strict_parse(one.receipt.body)
            if body["kind"] in ("intent", "refusal"):
                found.append({**body, **{name: value for name, (_, value) in one.receipt.disclosed.items()}})
        return found

    @cached_property
    def _fastapi(self) -> Any:
        app = FastAPI(openapi_url=None)

        async def view(request: Request) -> dict[str, bool]:
            self.ran.append(await request.body())
            return {"ran": True}

        for one in PATHS:
            app.add_api_route(f"/{one}", view, methods=[METHODS[one]])
        install(app, fence=self.fence)
        return app

    @cached_property
    def _flask(self) -> Any:
        app = Flask("agents", static_folder=None)

        def view() -> dict[str, bool]:
            self.ran.append(flask_request.get_data())
            return {"ran": True}

        AgentFence(app, fence=self.fence)
        for one in PATHS:
            app.add_url_rule(f"/{one}", one, view, methods=[METHODS[one]])
        return app

    def _view(self, request: Any) -> HttpResponse:
        self.ran.append(request.body)
        return HttpResponse("ran")

    async def _aview(self, request: Any) -> HttpResponse:
        return self._view(request)


METHODS = {"pay": "POST", "read": "GET", "report": "GET", "drop": "DELETE"}


def over_asgi(app: Any, asked: httpx.Request, peer: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 1))) as client:
            return await client.send(asked)

    return anyio.run(ask)


def over_wsgi(app: Any, asked: httpx.Request, peer: str) -> httpx.Response:
    with httpx.Client(transport=httpx.WSGITransport(app, remote_addr=peer)) as client:
        return client.send(asked)
