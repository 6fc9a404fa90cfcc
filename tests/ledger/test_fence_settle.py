"""Settling from anywhere: a worker or a webhook that knows a reservation's id and nothing else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from afmiddleware import ActionEvent, Fence, Money
from afmiddleware.cli.receipts import verify_policy
from afmiddleware.errors import AFError
from afmiddleware.model import Actor, Tier
from afmiddleware.testing import FrozenClock

POLICY = """version: 1
service: s
ledger: sqlite:///fence.db
rules: {allow: [payments.send.here]}
limits: [{name: daily, spend: 100 USD, window: day, per: actor}]
"""


@pytest.fixture
def fence(tmp_path: Path) -> Fence:
    (tmp_path / "fence.yaml").write_text(POLICY)
    return Fence.from_file(tmp_path / "fence.yaml", env={}, clock=FrozenClock())


def unknown(fence: Fence, amount: str) -> str:
    """An action whose handler fails half-way; its reservation's id."""
    event = ActionEvent.create(
        actor="a", resource="payments", action="send", environment="here", amount=Money.parse(f"{amount} USD")
    )
    names: list[str] = []
    with suppress(ZeroDivisionError), fence.action(event) as action:
        names.append(action.id)
        raise ZeroDivisionError
    return names[0]


def used(fence: Fence) -> int:
    return fence.ledger.rows(["actor:local:a"])["actor:local:a"].cells["daily/day/USD"].total


def test_a_worker_settles_what_was_in_doubt(fence: Fence, tmp_path: Path) -> None:
    one, two = unknown(fence, "60"), unknown(fence, "40")
    closed = fence.settle(one, "12.34", by="psp webhook")
    assert (closed.booked, closed.state) == (True, "capture")
    assert used(fence) == 5234
    assert fence.settle(one, "60").booked is False
    assert fence.release(two, by="psp webhook").state == "release"
    assert used(fence) == 1234
    assert fence.settle("nobody").state == ""
    with pytest.raises(AFError):
        fence.settle(one, "1.234")
    fence.close()
    assert verify_policy(str(tmp_path / "fence.yaml")).code == ""


@pytest.mark.anyio
async def test_the_same_in_async_code(fence: Fence) -> None:
    one, two = unknown(fence, "60"), unknown(fence, "40")
    assert (await fence.asettle(one)).state == "capture"
    assert (await fence.arelease(two)).state == "release"
    assert used(fence) == 6000
    fence.close()


def test_a_refund_is_charged_nothing_and_what_follows_it_is(fence: Fence) -> None:
    actor = Actor(id="key:a", account="a", tier=Tier.TOKEN)
    spent = ActionEvent(capability="payments.send.here", actor=actor, amount=Money.of("10", "USD"))
    given = replace(spent, refunds="b1")
    with fence.action(given):
        pass
    with fence.action(spent) as action:
        action.refer("b1")
    with fence.action(replace(given, amount=Money.of("4", "USD"))) as action:
        action.settle("3")
    fence.release("nothing")
    receipts = [one.columns["kind"] for one in fence.receipts]
    assert receipts.count("refund") == 1
    row = fence.ledger.rows(["actor:key:a"])["actor:key:a"]
    assert [cell.total for name, cell in row.cells.items() if name.endswith("USD")] == [700]
