"""Every ledger, for one contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from afmiddleware.fence import undo
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import (
    Charge,
    Conclusion,
    Draft,
    End,
    Entry,
    Limit,
    Money,
    Outcome,
    Settlement,
    Unit,
    Verdict,
    Window,
)
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import FrozenClock
from tests.ledger.servers import SECRET, postgres, rates, schema, shared

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model import Held


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.service("postgresql")),
        pytest.param("sqlite and redis", marks=pytest.mark.service("redis")),
    ]
)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock) -> Iterator[Ledger]:
    with opened(request.param, tmp_path, clock) as ledger:
        yield ledger


@contextmanager
def opened(kind: str, folder: Path, clock: FrozenClock, **more: Any) -> Iterator[Ledger]:
    """A new ledger of a kind, closed and cleaned away at the end."""
    with ExitStack() as stack:
        ledger: Ledger
        if kind == "memory":
            ledger = MemoryLedger(ReceiptKeys.derive(SECRET), clock, _draw(), **more)
        elif kind == "sqlite":
            ledger = sqlite(folder, clock, **more)
        elif kind == "sqlite and redis":
            ledger = sqlite(folder, clock, rates=rates(stack.enter_context(shared()), clock))
        else:
            ledger = postgres(stack.enter_context(schema()), clock, **more)
        stack.callback(ledger.close)
        yield ledger


def sqlite(folder: Path, clock: Callable[[], int], deadline: float = 10.0, **more: Any) -> SqliteLedger:
    return SqliteLedger(Location.of(folder / "fence.db"), clock, undo, secret=SECRET, deadline=deadline, **more)


def _draw() -> Callable[[int], bytes]:
    count = iter(range(10**9))

    def draw(size: int) -> bytes:
        return hashlib.shake_256(str(next(count)).encode()).digest(size)

    return draw


def rate(cap: int, seconds: int = 60, name: str = "burst", per: str = "actor") -> Limit:
    return Limit(
        name=name, unit=Unit.RATE, cap=cap, window=Window("rolling", seconds), per=per, cell=f"{name}/r{seconds}"
    )


def spend(cap: int, window: Window, name: str = "budget", per: str = "actor") -> Limit:
    cell = f"{name}/{window.kind}{window.seconds or ''}/USD"
    return Limit(name=name, unit=Unit.SPEND, cap=cap, window=window, per=per, currency="USD", exponent=2, cell=cell)


def crowd(cap: int, name: str = "at-once", per: str = "actor") -> Limit:
    return Limit(name=name, unit=Unit.CONCURRENT, cap=cap, window=Window("running"), per=per, cell=f"{name}/c")


def breaker(cap: int, half_open: int = 0, **more: Any) -> Limit:
    return Limit(
        name="breaker",
        unit=Unit.SPEND,
        cap=cap,
        window=Window("day"),
        per="global",
        currency="USD",
        exponent=2,
        cell="breaker/day/USD",
        on_exceed="trip",
        half_open=half_open,
        **more,
    )


ALLOW = Verdict(authorized=True, code="policy.allowed", capability="payments.pay", rule="allow[1]")
DENY = Verdict(authorized=False, code="policy.denied", capability="payments.pay", rule="deny[1]", reason="No.")


def entry(
    name: str,
    *limits: Limit,
    amount: int = 0,
    owner: str = "key:a",
    verdict: Verdict = ALLOW,
    quiet: bool = False,
    observe: bool = False,
    dry: bool = False,
) -> Entry:
    """An entry by `owner` of `amount` cents under `limits`."""

    def record(final: Verdict) -> Draft:
        kind = "intent" if final.authorized or observe else "refusal"
        return Draft(
            kind=kind,
            owner=owner,
            body={
                "id": name,
                "capability": "payments.pay",
                "verdict": "allow" if final.authorized else "refuse",
                "code": final.code,
            },
            private={"actor": owner, "payload": None},
        )

    def key(limit: Limit) -> str:
        return "global" if limit.per == "global" else f"actor:{owner}"

    return Entry(
        id=name,
        owner=owner,
        verdict=verdict,
        record=record,
        rates=tuple(Charge(limit, key(limit), 1) for limit in limits if limit.unit is Unit.RATE),
        spends=tuple(Charge(limit, key(limit), amount) for limit in limits if limit.unit is Unit.SPEND),
        slots=tuple(Charge(limit, key(limit), 1) for limit in limits if limit.unit is Unit.CONCURRENT),
        guarded=any(limit.on_exceed for limit in limits),
        money=Money(amount, "USD", 2),
        capability="payments.pay",
        quiet=quiet,
        counted="POST /pay",
        observe=observe,
        dry=dry,
    )


def ending(
    begun: Entry,
    held: Held,
    settlement: Settlement = Settlement.CAPTURE,
    captured: int | None = None,
    end: End = End.OK,
) -> Conclusion:
    """The conclusion of an admitted entry."""
    assert held.receipt is not None
    return Conclusion(begun.id, Outcome(settlement=settlement, end=end, status=200, captured=captured))
