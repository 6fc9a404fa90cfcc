"""A fenced Django project, what its views did, what its ledger holds, and servers of the least kind for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from afmiddleware.config.load import load
from afmiddleware.current import current_action
from afmiddleware.errors import AFError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from tests.conformance import wsgi
from tests.integrations.django.project import project

HEAD = """
version: 1
service: tried
ledger: {ledger}
"""

POLICY = """
routes:
  - {route: POST /pay, capability: a.pay, amount: {from: body.amount}}
  - {route: POST /keep, capability: a.keep, amount: {from: body.amount}, on_outcome: keep}
  - {route: "GET /read/{id}", capability: a.read, resource: "thing:{path.id}"}
  - {route: GET /health, public: true}
rules: {allow: [a.*]}
limits:
  - {name: cap, spend: 100 USD, window: total, per: global}
"""


class Answer(msgspec.Struct):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The reason code of a refusal; nothing for any other answer."""
        told = json.loads(self.body) if self.headers.get("content-type") == "application/problem+json" else {}
        return str(told.get("code", ""))


class Door:
    """A project's application, under WSGI or ASGI. Middlewares are loaded when it is made."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.app: Any = WSGIHandler() if kind == "wsgi" else ASGIHandler()

    def send(self, method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> Answer:
        told = [("host", "api.example.com"), *headers]
        if body and not any(name == "transfer-encoding" for name, _ in told):
            told.append(("content-length", str(len(body))))
        if self.kind == "asgi":
            return asyncio.run(self.asend(method, target, body, told))
        status, answered, content = wsgi.call(self.app, wsgi.environ_of(method, target, told, body))
        return Answer(status, {name.lower(): value for name, value in answered}, content)

    def json(self, method: str, target: str, value: object, *headers: tuple[str, str]) -> Answer:
        return self.send(method, target, json.dumps(value).encode(), [("content-type", "application/json"), *headers])

    async def asend(self, method: str, target: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Answer:
        pending = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []
        gone = asyncio.Event()

        async def receive() -> Any:
            if pending:
                return pending.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope_of(method, target, headers), receive, send)
        fields = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], fields, b"".join(message.get("body", b"") for message in sent[1:]))


def scope_of(method: str, target: str, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    place, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(place).decode("utf-8", "replace"),
        "raw_path": place.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("203.0.113.9", 4000),
        "server": ("api.example.com", 80),
    }


class Tried:
    """A policy on a fresh ledger, the project it stands around, and what ran in it."""

    def __init__(
        self, folder: Path, policy: str = POLICY, ledger: str = "memory", *, inner: Sequence[str] = ()
    ) -> None:
        named = f"inner_middleware: [{', '.join(inner)}]\n" if inner else ""
        text = HEAD.format(ledger=ledger) + named + policy
        self.fence = Fence(load(text, "tried.yaml"), base=folder, clock=FrozenClock())
        self.ran: list[tuple[str, dict[str, Any], bytes]] = []

    def patterns(self, **answers: Any) -> list[Any]:
        """The endpoints of the usual policy. An answer is a response, or a function of the request."""
        return [
            path("pay", self.view("pay", answers.get("pay")).as_view()),
            path("keep", self.view("keep", answers.get("keep")).as_view()),
            path("read/<id>", self.view("read", answers.get("read"), "get").as_view()),
            path("health", self.view("health", None, "get").as_view()),
        ]

    def view(self, name: str, answer: Any = None, method: str = "post") -> Any:
        """A class view that notes what it acted on."""

        def run(_self: View, request: HttpRequest, **values: Any) -> Any:
            self.ran.append((name, values, request.body))
            if answer is None:
                return HttpResponse("done")
            return answer(request) if callable(answer) else answer

        return type(name.title(), (View,), {method: run})

    @contextmanager
    def door(self, kind: str, patterns: Sequence[Any] | None = None, **overrides: Any) -> Generator[Door]:
        """The project under WSGI or ASGI."""
        with project(self.patterns() if patterns is None else patterns, self.fence, **overrides):
            yield Door(kind)

    def receipts(self) -> list[dict[str, Any]]:
        return [strict_parse(one.receipt.body) for one in self.fence.ledger.receipts(Filter())]

    def settled(self) -> list[tuple[str, str]]:
        """How admitted actions ended: settlement and end."""
        return [(str(one["settlement"]), str(one["end"])) for one in self.receipts() if one["kind"] == "outcome"]

    def spent(self) -> int:
        """What is counted under the cap."""
        row = self.fence.ledger.rows(["global"]).get("global")
        return row.cells["cap/total/USD"].total if row is not None else 0


def admitted() -> bool:
    """Whether an admitted action runs here."""
    try:
        current_action()
    except AFError:
        return False
    return True


def layer(name: str, **hooks: Callable[..., Any]) -> type:
    """A middleware of the classic kind, sync and async capable; its import path is `tests...made.<name>`."""
    from django.utils.deprecation import MiddlewareMixin

    return type(name, (MiddlewareMixin,), hooks)
