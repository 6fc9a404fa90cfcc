"""A policy that changes while a view runs, in Flask and in Django: the request ends under the one it began with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from flask import Flask

from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from afmiddleware_flask import AgentFence
from tests.integrations.django.project import project

POLICY = """
version: 1
service: shop
ledger: memory
reload: "off"
mode: {mode}
routes:
  - {{route: POST {pay}, capability: shop.pay, amount: {{from: body.amount}}}}
rules: {{allow: [shop.*], deny: [{denied}]}}
"""


def policy(denied: str = "none", mode: str = "enforce", pay: str = "/pay") -> str:
    return POLICY.format(denied=denied, mode=mode, pay=pay)


@contextmanager
def flask_app(fence: Fence, act: Callable[[], None]) -> Iterator[Any]:
    app = Flask(__name__, static_folder=None)

    def pay() -> str:
        act()
        return "done"

    app.post("/pay")(pay)
    AgentFence(app, fence=fence)
    yield app


@contextmanager
def django_app(fence: Fence, act: Callable[[], None]) -> Iterator[Any]:
    def pay(_request: HttpRequest) -> HttpResponse:
        act()
        return HttpResponse("done")

    with project([path("pay", pay)], fence):
        yield WSGIHandler()


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("made", [flask_app, django_app])
def test_a_request_ends_under_the_policy_it_began_with(made: Any, mode: str, tmp_path: Path) -> None:
    file = tmp_path / "fence.yaml"
    file.write_text(policy(mode=mode), "utf-8")
    fence = Fence.from_file(file, env={}, clock=FrozenClock())
    began = fence.plan.digest
    other = "observe" if mode == "enforce" else "enforce"
    changes: list[bool] = []

    def act() -> None:
        if not changes:
            file.write_text(policy("shop.pay", other), "utf-8")
            changes.append(fence.reload())

    with (
        made(fence, act) as app,
        httpx.Client(transport=httpx.WSGITransport(app), base_url="http://api.example.com") as client,
    ):
        first = client.post("/pay", json={"amount": "1.00"})
        second = client.post("/pay", json={"amount": "1.00"})
        file.write_text(policy(pay="/gone"), "utf-8")
        with pytest.raises(ConfigError, match="/gone"):
            fence.reload()
        third = client.post("/pay", json={"amount": "1.00"})
    assert changes == [True]
    assert (first.status_code, first.text, "agent-receipt" in first.headers) == (200, "done", True)
    assert second.status_code == third.status_code == (403 if other == "enforce" else 200)
    bodies = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter())]
    [intent, *_] = [one for one in bodies if one["kind"] == "intent"]
    assert (intent["policy"], intent["mode"]) == (began, mode)
    assert next(one["settlement"] for one in bodies if one["kind"] == "outcome") == "capture"
    assert [(one["old_mode"], one["mode"]) for one in bodies if one["kind"] == "policy"] == [(mode, other)]
    fence.close()
