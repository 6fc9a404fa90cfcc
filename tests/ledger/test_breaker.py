"""Circuit breakers on every ledger: they open before the money moves, and stay open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from msgspec.structs import replace

from afmiddleware.model import Closed, Entry, Held, Settlement
from afmiddleware.model.entry import Order
from tests.ledger.conftest import breaker, ending, entry

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock

CELL = "breaker/day/USD"
CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("breakers.yaml").read_text())


def admit(ledger: Ledger, item: Entry) -> Held:
    held = ledger.commit(item)
    assert isinstance(held, Held)
    return held


def test_how_long_it_is_to_be_waited_is_told(ledger: Ledger) -> None:
    assert admit(ledger, entry("d1", breaker(1000), amount=2000)).verdict.retry_after == 60
    other = replace(breaker(1000, half_open=300), name="other", cell="other/day/USD")
    verdict = admit(ledger, entry("d2", other, amount=2000)).verdict
    assert (verdict.retry_after, verdict.limit) == (300, "other")


class Story:
    """One breaker and what happens to it."""

    def __init__(self, ledger: Ledger, clock: FrozenClock, changes: dict[str, Any]) -> None:
        limit = breaker(1000)
        self.limit = replace(limit, **changes)
        self.ledger, self.clock, self.owner = ledger, clock, "key:a"
        self.begun: dict[str, tuple[Entry, Held]] = {}

    @property
    def key(self) -> str:
        return "global" if self.limit.per == "global" else f"actor:{self.owner}"

    def step(self, what: str, *told: Any) -> None:
        getattr(self, f"on_{what}")(*told)

    def on_as(self, owner: str) -> None:
        self.owner = owner

    def on_pay(self, name: str, amount: int, code: str, *flags: str) -> None:
        item = entry(name, self.limit, amount=amount, owner=self.owner)
        held = admit(self.ledger, item)
        assert (held.verdict.code, held.verdict.flags) == (code.replace("ok", "policy.allowed"), flags)
        self.begun[name] = item, held

    def on_ask(self, name: str, amount: int, code: str) -> None:
        held = admit(self.ledger, entry(name, self.limit, amount=amount, owner=self.owner, dry=True))
        assert held.verdict.code == code.replace("ok", "policy.allowed")

    def on_end(self, name: str, settlement: str, captured: int | None = None) -> None:
        self.ledger.commit(ending(*self.begun[name], Settlement(settlement), captured))

    def on_wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def on_reset(self, expected: str = "booked") -> None:
        order = Order(what="reset", key=self.key, name=CELL, by="ops", reason="looked at")
        told = self.ledger.commit(order)
        assert isinstance(told, Closed)
        assert told.booked is (expected == "booked")

    def on_open(self, expected: bool) -> None:
        row = self.ledger.rows([self.key]).get(self.key)
        assert (row is not None and row.more is not None and CELL in row.more.trips) is expected

    def on_spent(self, expected: int) -> None:
        row = self.ledger.rows([self.key]).get(self.key)
        assert (row.cells[CELL].total if row is not None and CELL in row.cells else 0) == expected


@pytest.mark.parametrize("case", [pytest.param(one, id=one["id"]) for one in CASES])
def test_history(ledger: Ledger, clock: FrozenClock, case: dict[str, Any]) -> None:
    story = Story(ledger, clock, case.get("limit", {}))
    for step in case["steps"]:
        story.step(*step)
