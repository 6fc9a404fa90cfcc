"""The sample shop in Django, behind the policy that was written for the one in FastAPI."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.testing import mint_es256_issuer
from tests.integrations.django.fenced import Answer, Door
from tests.integrations.django.project import project

SHOPS = Path(__file__).parents[3] / "sample_apps"
BOOKING = {"flight_id": "AF1", "price": "5.00", "currency": "USD", "airline": "AF"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copyfile(SHOPS / "fastapi_shop" / "fence.yaml", tmp_path / "fence.yaml")
    return tmp_path


class Visit:
    """The shop, and callers with credentials for it."""

    def __init__(self, folder: Path, kind: str) -> None:
        issuer = mint_es256_issuer("https://agents.example.com", "https://shop.example.com")
        (folder / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
        self.fence = Fence.from_file(folder / "fence.yaml", env={})
        text, record = new_key("acct", secrets.token_bytes, now=self.fence.clock())
        self.fence.ledger.put_api_key(record)
        self.callers = {
            "anybody": "",
            "key": f"Bearer {text}",
            "agent": f"Bearer {issuer.mint(sub='a', scope='flights.book')}",
            "admin": f"Bearer {issuer.mint(sub='b', scope='admin')}",
        }
        self.kind = kind
        self.door: Door | None = None

    def ask(self, caller: str, method: str, path: str, value: object = None) -> Answer:
        assert self.door is not None
        headers = [("authorization", self.callers[caller])] if self.callers[caller] else []
        return (
            self.door.send(method, path, headers=headers)
            if value is None
            else self.door.json(method, path, value, *headers)
        )


@pytest.fixture
def visit(folder: Path, kind: str) -> Iterator[Visit]:
    visit = Visit(folder, kind)
    with project([], visit.fence, ROOT_URLCONF="django_shop.urls"):
        visit.door = Door(kind)
        yield visit
    visit.fence.close()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_the_shop_works_and_is_fenced(visit: Visit) -> None:
    assert visit.ask("anybody", "GET", "/health").status == 200
    assert visit.ask("anybody", "GET", "/v1/flights").status == 200
    assert visit.ask("anybody", "POST", "/v1/bookings", BOOKING).code == "identity.required"
    assert visit.ask("key", "POST", "/v1/bookings", BOOKING).code == "identity.tier"
    booked = visit.ask("agent", "POST", "/v1/bookings", BOOKING)
    assert (booked.status, json.loads(booked.body)["total"]) == (200, "5.00")
    assert visit.ask("agent", "POST", "/v1/bookings", BOOKING | {"price": "60.00"}).code == "amount.over_action_cap"
    assert visit.ask("agent", "POST", "/v1/bookings", BOOKING | {"passengers": 0}).status == 422
    assert visit.ask("agent", "POST", "/v1/bookings", BOOKING | {"airline": "ghost-air"}).code == "policy.denied"
    assert visit.ask("agent", "DELETE", f"/v1/bookings/{json.loads(booked.body)['id']}").status == 200
    assert visit.ask("agent", "DELETE", "/v1/bookings/4711").status == 404
    assert visit.ask("agent", "GET", "/v1/bookings").status == 405
    assert visit.ask("agent", "POST", "/v1/refunds", {"booking_id": 1, "amount": "5.00"}).code == "policy.unmatched"
    assert visit.ask("key", "GET", "/v1/export").body.startswith(b"id,flight,price\n")
    assert visit.ask("agent", "GET", "/admin/stats").code == "identity.scope"
    assert visit.ask("admin", "GET", "/admin/stats").status == 200
    assert visit.ask("admin", "POST", "/v1/debug/reset").code == "route.unmapped"
    assert visit.ask("anybody", "GET", "/v1/nothing").status == 404


def manage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, SHOPS / "django_shop" / "manage.py", *arguments],
        env=environment | {"AFM_POLICY": str(folder / "fence.yaml")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_commands_of_the_project(folder: Path) -> None:
    Visit(folder, "wsgi").fence.close()
    ran = manage(folder, "check", "--deploy", "--tag", "afmiddleware")
    assert (ran.returncode, ran.stderr.count("afmiddleware.")) == (0, 1)
    assert "POST /v1/debug/reset" in ran.stderr
    ran = manage(folder, "fence_check")
    assert ran.returncode == 1
    assert "DELETE /v1/bookings/{booking_id:int}" in ran.stdout
    ran = manage(folder, "fence_verify")
    assert ran.returncode in (0, 4), ran.stderr
