"""Room for counters on every ledger: strangers fold into wider blocks, and never take the room of a known caller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from afmiddleware.errors import LedgerFullError
from afmiddleware.identity.address import address_key
from afmiddleware.ledger.room import NAMED_BY_STRANGERS
from afmiddleware.limits.select import Limits
from afmiddleware.model import ActionEvent, Actor, Entry, Held, Limit, Money, Tier, Window
from afmiddleware.model.entry import Order
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, opened, rate, spend

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

KINDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))]
BURST, DAILY = rate(5), spend(1000, Window("day"))


@pytest.fixture(params=KINDS)
def small(request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock) -> Iterator[Ledger]:
    """Room for 400 counters, 100 of them of strangers."""
    with opened(request.param, tmp_path, clock, max_rows=400) as ledger:
        yield ledger


def asked(name: str, peer: str, *limits: Limit, recipient: str | None = None) -> Entry:
    """An entry as the spine makes it for a caller that nobody knows, or for a known one where `peer` is a name."""
    known = peer.startswith("key:")
    actor = Actor(id=peer, tier=Tier.TOKEN) if known else Actor(id=f"address:{address_key(peer)}")
    event = ActionEvent(capability="payments.pay", actor=actor, recipient=recipient, amount=Money(1, "USD", 2))
    found = Limits(limits or (BURST,))
    address = "" if known else address_key(peer)
    return replace(
        entry(name, owner=actor.id if known else "anonymous", quiet=not known),
        rates=found.rates("payments.pay", actor, event, lambda: address),
        spends=found.spends(event, lambda: address),
        actor="" if known else actor.id,
        named=found.named,
    )


def code(ledger: Ledger, item: Entry) -> str:
    try:
        held = ledger.commit(item)
    except LedgerFullError:
        return "ledger.full"
    assert isinstance(held, Held)
    return held.verdict.code


def test_a_flood_of_addresses_is_folded_and_refused_and_known_callers_are_not(small: Ledger) -> None:
    codes = [code(small, asked(f"s{n}", f"10.{n % 200}.{n % 7}.{n // 200}")) for n in range(600)]
    assert set(codes[:50]) == {"policy.allowed"}
    # Nobody is turned away for want of room: what is left is one bucket, which is full soon.
    assert set(codes) == {"policy.allowed", "rate.exceeded"}
    assert codes[-50:] == ["rate.exceeded"] * 50
    assert small.rows(["actor:address:*"])["actor:address:*"].cells[BURST.cell].total == 5
    for n in range(150):
        assert code(small, asked(f"k{n}", f"key:{n}", BURST, DAILY)) == "policy.allowed"


def test_an_address_that_has_a_counter_keeps_it(small: Ledger) -> None:
    for _ in range(3):
        assert code(small, asked("first", "192.0.2.1")) == "policy.allowed"
    for n in range(600):
        code(small, asked(f"s{n}", f"10.{n % 200}.{n % 7}.{n // 200}"))
    assert [code(small, asked("again", "192.0.2.1")) for _ in range(3)] == [
        "policy.allowed",
        "policy.allowed",
        "rate.exceeded",
    ]


def test_room_comes_back_when_windows_are_over(small: Ledger, clock: FrozenClock) -> None:
    for n in range(600):
        code(small, asked(f"s{n}", f"10.{n % 200}.{n % 7}.{n // 200}"))
    assert code(small, asked("new", "198.51.100.7")) == "rate.exceeded"
    clock.advance(3 * 86_400)
    swept(small)
    assert code(small, asked("new", "198.51.100.7")) == "policy.allowed"
    assert "actor:address:198.51.100.7/32" in small.rows(["actor:address:198.51.100.7/32"])


def swept(ledger: Ledger) -> None:
    """Have the writer look at every page of the counters."""
    committer = getattr(ledger, "_committer", None)
    if committer is not None:
        with committer._wake:
            committer._rests = 0.0
        for n in range(20):
            code(ledger, asked(f"tick{n}", "key:tick"))


def test_more_known_callers_than_there_is_room_for_are_refused_and_no_cap_begins_anew(small: Ledger) -> None:
    assert code(small, replace(asked("k0", "key:0", DAILY), spends=spends("key:0", 1000))) == "policy.allowed"
    codes = [code(small, asked(f"k{n}", f"key:{n}", DAILY)) for n in range(1, 600)]
    assert codes.count("ledger.full") > 150
    assert codes.count("policy.allowed") > 380
    assert code(small, replace(asked("k0", "key:0", DAILY), spends=spends("key:0", 1))) == "spend.exceeded"


def spends(owner: str, amount: int) -> tuple[object, ...]:
    return entry("x", DAILY, amount=amount, owner=owner).spends


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
def test_a_stranger_that_names_ever_new_recipients_is_refused_and_others_are_not(ledger: Ledger, peer: str) -> None:
    each = spend(1000, Window("day"), "each", per="recipient")
    wide = rate(10_000)
    codes = [code(ledger, asked(f"s{n}", peer, wide, each, recipient=f"r{n}")) for n in range(NAMED_BY_STRANGERS + 20)]
    assert codes.count("policy.allowed") == NAMED_BY_STRANGERS
    assert codes[-20:] == ["ledger.full"] * 20
    # What it has named it may name again, and another caller may name what it could not.
    assert code(ledger, asked("again", peer, wide, each, recipient="r7")) == "policy.allowed"
    assert code(ledger, asked("other", "198.51.100.7", wide, each, recipient="new")) == "policy.allowed"


@pytest.mark.parametrize(
    ("peer", "frozen"),
    [
        ("192.0.2.1", "address:192.0.2.1/32"),
        ("192.0.2.1", "address:192.0.2.0/24"),
        ("::ffff:192.0.2.1", "address:192.0.2.1/32"),
        ("2001:db8:1:2::3", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::3", "address:2001:db8:1::/48"),
    ],
)
def test_an_address_is_frozen(ledger: Ledger, peer: str, frozen: str) -> None:
    assert code(ledger, asked("before", peer)) == "policy.allowed"
    ledger.commit(Order(what="freeze", key=f"actor:{frozen}", reason="abuse", by="ops"))
    assert code(ledger, asked("after", peer)) == "actor.frozen"
    assert code(ledger, asked("other", "203.0.113.9")) == "policy.allowed"
    ledger.commit(Order(what="unfreeze", key=f"actor:{frozen}", by="ops"))
    assert code(ledger, asked("again", peer)) == "policy.allowed"


def test_a_block_of_addresses_has_four_times_the_cap_of_one(ledger: Ledger) -> None:
    codes = [code(ledger, asked(f"s{n}", f"2001:db8:1:{n:x}::1")) for n in range(60)]
    assert codes.count("policy.allowed") == 4 * BURST.cap
    assert code(ledger, asked("elsewhere", "2001:db8:1:100::1")) == "policy.allowed"


def test_the_block_of_a_customer_has_sixteen_times_the_cap_of_one(ledger: Ledger) -> None:
    codes = [code(ledger, asked(f"s{n}", f"2001:db8:1:{n + 1:x}00::1")) for n in range(200)]
    assert codes.count("policy.allowed") == 16 * BURST.cap
    assert code(ledger, asked("elsewhere", "2001:db8:2::1")) == "policy.allowed"


def test_a_block_of_addresses_is_paced_as_many_times_faster(ledger: Ledger) -> None:
    pace = Limit(name="pace", unit=BURST.unit, cap=1, quota=60, window=Window("pacing", 60), cell="pace/p60-60")
    codes = [code(ledger, asked(f"s{n}", f"2001:db8:1:{n:x}::1", pace)) for n in range(20)]
    assert codes.count("policy.allowed") == 4
