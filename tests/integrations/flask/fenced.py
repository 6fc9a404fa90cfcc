"""A fenced Flask application, what its views did, and what its ledger holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from afmiddleware.config.load import load
from afmiddleware.current import current_action
from afmiddleware.errors import AFError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from afmiddleware_flask import AgentFence

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


class Tried:
    """A policy on a fresh ledger, the applications it stands around, and what ran in them."""

    def __init__(self, folder: Path, policy: str = POLICY, ledger: str = "memory") -> None:
        text = HEAD.format(ledger=ledger) + policy
        self.fence = Fence(load(text, "tried.yaml"), base=folder, clock=FrozenClock())
        self.extension = AgentFence(fence=self.fence)
        self.ran: list[tuple[str, dict[str, Any], bytes]] = []

    def app(self) -> Flask:
        app = Flask("tried", static_folder=None)
        app.post("/pay")(self.view("pay"))
        app.post("/keep")(self.view("keep"))
        app.get("/read/<id>")(self.view("read"))
        app.get("/health")(self.view("health"))
        return app

    def view(self, name: str, answer: Any = "done") -> Any:
        """A view that notes what it acted on."""

        def run(**values: Any) -> Any:
            self.ran.append((name, values, request.get_data()))
            return answer() if callable(answer) else answer

        run.__name__ = name
        return run

    def client(self, app: Flask) -> FlaskClient:
        self.extension.init_app(app)
        app.test_client_class = Whole
        return app.test_client()

    def receipts(self) -> list[dict[str, Any]]:
        return [strict_parse(one.receipt.body) for one in self.fence.ledger.receipts(Filter())]

    def settled(self) -> list[tuple[str, str]]:
        """How admitted actions ended: settlement and end."""
        return [(str(one["settlement"]), str(one["end"])) for one in self.receipts() if one["kind"] == "outcome"]

    def spent(self) -> int:
        """What is counted under the cap."""
        row = self.fence.ledger.rows(["global"]).get("global")
        return row.cells["cap/total/USD"].total if row is not None else 0


class Whole(FlaskClient):
    """A client that takes every answer to its end, as servers do."""

    def open(self, *args: Any, **more: Any) -> TestResponse:
        return super().open(*args, buffered=True, **more)


def code_of(answer: TestResponse) -> str:
    """The reason code of a refusal; nothing for any other answer."""
    if answer.mimetype != "application/problem+json":
        return ""
    return str(json.loads(answer.get_data())["code"])


def admitted() -> bool:
    """Whether an admitted action runs here."""
    try:
        current_action()
    except AFError:
        return False
    return True
