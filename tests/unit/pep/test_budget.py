"""A caller's own budget over HTTP: every limit that counts it alone, and nothing of anybody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.model import ActionEvent, Actor, Money, Tier
from afmiddleware.model.entry import Order
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware.testing import FrozenClock
from tests.unit.pep.test_endpoints import PREFIX, Service, app, drawing

POLICY = """
version: 1
service: s
ledger: {ledger}
identity: {{api_keys: {{store: ledger}}}}
routes: []
rules: {{allow: [pay.*]}}
limits:
  - {{name: burst, rate: 30/minute, per: actor}}
  - {{name: pays, rate: 5/day, per: actor, capability: "pay.*"}}
  - {{name: daily, spend: 100 USD, window: day, per: actor, capability: "pay.*"}}
  - {{name: life, spend: 500 USD, window: total, per: principal}}
  - {{name: yen, spend: 9000 JPY, window: rolling 60m, per: actor}}
  - {{name: one, spend: 20 USD, window: day, per: [actor, capability], capability: pay.one}}
  - {{name: at-once, concurrent: 2, per: actor}}
  - {{name: house, spend: 1000 USD, window: day, per: global}}
  - {{name: ours, spend: 1000 USD, window: day, per: tenant}}
  - {{name: each, spend: 500 USD, window: day, per: [actor, recipient]}}
actors:
  "key:ann": {{limits: {{daily: 80 USD}}}}
"""


@pytest.fixture(params=["memory", "sqlite:///fence.db"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    one = Service.__new__(Service)
    place = tmp_path / "fence.yaml"
    place.write_text(POLICY.format(ledger=request.param))
    one.fence = Fence.from_file(place, env={}, clock=FrozenClock())
    one.app = FenceMiddleware(app, fence=one.fence)
    one.keys = {"nobody": ""}
    for name in ("ann", "bob"):
        one.keys[name], record = new_key(name, drawing(name), now=1)
        one.fence.ledger.put_api_key(record)
    yield one
    one.fence.close()


def spend(service: Service, who: str, amount: str, capability: str = "pay.one") -> None:
    actor = Actor(id=f"key:{who}", account=who)
    with service.fence.action(ActionEvent(capability=capability, actor=actor, amount=Money.parse(amount))):
        pass
    # What was posted is written before this is answered.
    service.fence.release("nothing")


def budget(service: Service, who: str) -> dict[str, Any]:
    status, headers, body = service.get(f"{PREFIX}budget", who)
    assert (status, headers["cache-control"], headers["content-type"]) == (200, "private, no-store", "application/json")
    told: dict[str, Any] = json.loads(body)
    return told


def test_every_limit_of_the_caller_alone_is_told(service: Service) -> None:
    spend(service, "ann", "12.50 USD")
    spend(service, "ann", "1000 JPY", "pay.two")
    told = budget(service, "ann")
    assert (told["actor"], told["frozen"]) == ("key:ann", False)
    found = {one["limit"]: (one["used"], one["cap"], one["remaining"]) for one in told["limits"]}
    assert found == {
        "burst": (2, 30, 28),
        "pays": (2, 5, 3),
        "daily": ("12.50", "80.00", "67.50"),
        "life": ("12.50", "500.00", "487.50"),
        "yen": ("1000", "9000", "8000"),
        "one": ("12.50", "20.00", "7.50"),
        "at-once": (0, 2, 2),
    }
    daily = next(one for one in told["limits"] if one["limit"] == "daily")
    assert daily["resets_at"] == "2026-11-22T00:00:00Z"
    assert (daily["currency"], daily["window"], daily["per"], daily["capability"]) == ("USD", "day", ["actor"], "pay.*")


def test_nothing_of_another_caller_is_told(service: Service) -> None:
    before = budget(service, "bob")
    spend(service, "ann", "80 USD", "pay.two")
    assert budget(service, "bob") == before
    assert all(one["used"] in (0, "0.00", "0") for one in before["limits"])


def test_what_the_operator_set_is_told(service: Service) -> None:
    ledger = service.fence.ledger
    ledger.commit(Order(what="cap", key="actor:key:ann", name="daily", value=1000, by="ops"))
    ledger.commit(Order(what="freeze", key="actor:key:ann", reason="something secret", by="ops"))
    status, _, body = service.get(f"{PREFIX}budget", "ann")
    assert status == 200
    assert b"secret" not in body
    told = json.loads(body)
    assert told["frozen"] is True
    assert next(one["cap"] for one in told["limits"] if one["limit"] == "daily") == "10.00"


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("afm_bad", 401)])
def test_who_is_nobody_has_no_budget(service: Service, who: str, status: int) -> None:
    found, _, body = service.get(f"{PREFIX}budget", who)
    assert found == status
    assert b"daily" not in body


def test_it_is_only_read_and_only_there(service: Service) -> None:
    assert service.get(f"{PREFIX}budget", "ann", method="POST")[0] == 405
    assert service.get(f"{PREFIX}budget", "ann", method="HEAD")[2] == b""
    assert service.get(f"{PREFIX}budget/key:bob", "ann")[0] == 403


def test_what_is_not_settled_is_told_as_held(service: Service) -> None:
    """Also what is in doubt; what others hold is not in it."""
    for who, amount in (("ann", "7 USD"), ("bob", "9 USD")):
        actor = Actor(id=f"key:{who}", account=who, tier=Tier.TOKEN)
        event = ActionEvent(capability="pay.one", actor=actor, amount=Money.parse(amount), recipient="key:ann")
        with suppress(ZeroDivisionError), service.fence.action(event):
            raise ZeroDivisionError
    spend(service, "ann", "2 USD")
    actor = Actor(id="key:ann", account="ann", tier=Tier.TOKEN)
    with service.fence.action(ActionEvent(capability="pay.one", actor=actor, amount=Money.parse("3 USD"))):
        found = {one["limit"]: (one["used"], one["held"]) for one in budget(service, "ann")["limits"]}
    assert (found["daily"], found["life"], found["one"]) == (("12.00", "10.00"),) * 3
    assert (found["burst"], found["at-once"]) == ((3, 0), (1, 1))
