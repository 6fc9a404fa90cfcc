"""The sample shop in Flask, behind the policy that was written for the one in FastAPI."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from afmiddleware.identity.api_keys import new_key
from afmiddleware.testing import mint_es256_issuer
from afmiddleware_flask.audit import listing
from tests.integrations.flask.fenced import Whole, code_of

SHOPS = Path(__file__).parents[3] / "sample_apps"
BOOKING = {"flight_id": "AF1", "price": "5.00", "currency": "USD", "airline": "AF"}


class Visit:
    """The shop, and callers with credentials for it."""

    def __init__(self, folder: Path) -> None:
        shutil.copyfile(SHOPS / "fastapi_shop" / "fence.yaml", folder / "fence.yaml")
        issuer = mint_es256_issuer("https://agents.example.com", "https://shop.example.com")
        (folder / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
        spec = spec_from_file_location("flask_shop", SHOPS / "flask_shop" / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        self.app: Flask = module.create_app(folder / "fence.yaml")
        self.app.test_client_class = Whole
        self.client: FlaskClient = self.app.test_client()
        self.fence = self.app.extensions["afmiddleware"].fence
        text, record = new_key("acct", secrets.token_bytes, now=self.fence.clock())
        self.fence.ledger.put_api_key(record)
        self.callers = {
            "anybody": {},
            "key": {"authorization": f"Bearer {text}"},
            "agent": {"authorization": f"Bearer {issuer.mint(sub='a', scope='flights.book')}"},
            "admin": {"authorization": f"Bearer {issuer.mint(sub='b', scope='admin')}"},
        }

    def ask(self, caller: str, method: str, path: str, **more: Any) -> Any:
        return self.client.open(path, method=method, headers=self.callers[caller], **more)


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    visit = Visit(tmp_path)
    yield visit
    visit.fence.close()


@pytest.mark.parametrize(
    ("caller", "method", "path", "more", "status", "code"),
    [
        ("anybody", "GET", "/health", {}, 200, ""),
        ("anybody", "GET", "/v1/flights", {}, 200, ""),
        ("anybody", "POST", "/v1/bookings", {"json": BOOKING}, 401, "identity.required"),
        ("key", "POST", "/v1/bookings", {"json": BOOKING}, 403, "identity.tier"),
        ("agent", "POST", "/v1/bookings", {"json": BOOKING}, 200, ""),
        ("agent", "POST", "/v1/bookings", {"json": {**BOOKING, "price": "60"}}, 403, "amount.over_action_cap"),
        ("agent", "POST", "/v1/bookings", {"json": {**BOOKING, "airline": "ghost-air"}}, 403, "policy.denied"),
        ("agent", "POST", "/v1/bookings", {"json": {**BOOKING, "passengers": 0}}, 422, ""),
        ("agent", "POST", "/v1/bookings", {"json": {**BOOKING, "flight_id": "X"}}, 404, ""),
        ("agent", "DELETE", "/v1/bookings/9", {}, 404, ""),
        ("agent", "POST", "/v1/refunds", {"json": {"booking_id": 1, "amount": 1}}, 403, "policy.unmatched"),
        ("key", "GET", "/v1/export", {}, 200, ""),
        ("admin", "GET", "/admin/stats", {}, 200, ""),
        ("agent", "GET", "/admin/stats", {}, 403, "identity.scope"),
        ("admin", "POST", "/v1/debug/reset", {}, 403, "route.unmapped"),
        ("admin", "GET", "/admin/else", {}, 404, ""),
    ],
)
def test_the_policy_of_the_other_shop_holds_here(
    visit: Visit, caller: str, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    answer = visit.ask(caller, method, path, **more)
    assert (answer.status_code, code_of(answer)) == (status, code)


def test_a_booking_is_made_and_cancelled(visit: Visit) -> None:
    made = visit.ask("agent", "POST", "/v1/bookings", json=BOOKING)
    assert made.get_json() == {"id": 1, "total": "5.00", "booked_for": "a"}
    assert 'hourly";remaining="45.00"' in made.headers["Agent-Budget"]
    assert "1,AF1,5.00" in visit.ask("key", "GET", "/v1/export").get_data(as_text=True)
    assert visit.ask("agent", "DELETE", "/v1/bookings/1").get_json() == {"cancelled": 1}


def test_what_the_shop_has(visit: Visit) -> None:
    keys = {one.key for one in listing(visit.app).endpoints}
    assert keys == {
        "GET /health",
        "GET /v1/flights",
        "POST /v1/bookings",
        "DELETE /v1/bookings/{booking_id:int}",
        "POST /v1/refunds",
        "GET /v1/export",
        "POST /v1/debug/reset",
        "GET /admin/stats",
    }
