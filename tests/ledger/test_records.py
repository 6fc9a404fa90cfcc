"""What is recorded beside decisions: which policy decides, what operators did, whose values were deleted."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from afmiddleware.config.ledger_url import parse_postgres
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.orders import key_change
from afmiddleware.model import Closed, Held, Record, Settlement
from afmiddleware.model.api_key import ApiKeyRecord
from afmiddleware.model.entry import InForce, NewEpoch, Order, Settle
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.notary import redaction
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry
from tests.ledger.servers import POSTGRES, SECRET, admin, postgres, schema

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.base import Ledger

POLICY = "version: 1\nservice: s\nledger: sqlite:///fence.db\nmode: {mode}\nrules: {{allow: [x.y.z{more}]}}\n"


def bodies(ledger: Ledger, kind: str) -> list[dict[str, Any]]:
    """The receipts of a kind, with what is disclosed."""
    return [
        strict_parse(one.receipt.body) | {name: value for name, (_, value) in one.receipt.disclosed.items()}
        for one in ledger.receipts(Filter(kind=kind))
    ]


def whole(ledger: Ledger) -> bool:
    return ReceiptLog(ledger, ReceiptKeys.derive(SECRET)).verify().status == "unanchored"


def test_another_policy_is_recorded_and_the_same_one_is_not(ledger: Ledger):
    first = InForce("aa", "enforce")
    assert ledger.commit(first) == Closed(booked=False, state="policy")
    assert ledger.head().size == 0
    ledger.commit(entry("d1"))
    assert ledger.commit(first) == Closed(booked=False, state="policy")
    changed = ledger.commit(InForce("bb", "enforce", "reload", by="ops"))
    assert isinstance(changed, Closed)
    assert changed.booked
    ledger.commit(InForce("bb", "observe"))
    told = [
        (one["old_policy"], one["old_mode"], one["policy"], one["mode"], one["cause"], one["by"])
        for one in bodies(ledger, "policy")
    ]
    assert told == [
        ("aa", "enforce", "bb", "enforce", "reload", "ops"),
        ("bb", "enforce", "bb", "observe", "start", None),
    ]
    assert whole(ledger)


def test_a_log_that_knows_no_policy_yet_records_the_first_that_comes(ledger: Ledger):
    ledger.commit(entry("d1"))
    ledger.commit(InForce("aa", "enforce"))
    assert [(one["old_policy"], one["policy"]) for one in bodies(ledger, "policy")] == [("", "aa")]


def test_a_fence_says_once_which_policy_decides(tmp_path: Path):
    def decided(mode: str, more: str = "") -> None:
        fence = Fence(load(POLICY.format(mode=mode, more=more)), base=tmp_path, clock=FrozenClock())
        with closing(fence):
            for _ in range(2):
                with fence.action(event):
                    pass
            found.append([one["mode"] for one in bodies(fence.ledger, "policy")])
            digests.append(fence.plan.digest)

    from afmiddleware import ActionEvent

    event = ActionEvent.create(actor="agent-7", resource="x", action="y", environment="z")
    found: list[list[str]] = []
    digests: list[str] = []
    for mode, more in (("enforce", ""), ("enforce", ""), ("observe", ""), ("enforce", ", a.b")):
        decided(mode, more)
    assert found == [[], [], ["observe"], ["observe", "enforce"]]
    looking = Fence(load(POLICY.format(mode="enforce", more=", c.d")), base=tmp_path, clock=FrozenClock())
    with closing(looking):
        # Who only looks puts no policy in force.
        assert looking.decide(event).authorized
    fence = Fence(load(POLICY.format(mode="enforce", more=", a.b")), base=tmp_path, clock=FrozenClock())
    with closing(fence):
        assert [(one["old_policy"], one["policy"]) for one in bodies(fence.ledger, "policy")] == [
            (digests[1], digests[2]),
            (digests[2], digests[3]),
        ]
        # The record stands before the first decision under that policy.
        kinds = [strict_parse(one.receipt.body)["kind"] for one in fence.ledger.receipts(Filter())]
    assert (
        kinds
        == ["intent", "outcome"] * 4 + ["policy"] + ["intent", "outcome"] * 2 + ["policy"] + ["intent", "outcome"] * 2
    )


def test_the_change_of_an_api_key_is_stored_with_its_record_or_not_at_all(ledger: Ledger):
    made = ApiKeyRecord(id="k123456789", digest=bytes(32), account="acct_42", created=7)
    ledger.commit(key_change("key.new", made, "ops"))
    assert ledger.api_keys() == [made]
    gone = ApiKeyRecord(id="k123456789", digest=bytes(32), account="acct_42", created=7, revoked=9)
    ledger.commit(key_change("key.revoke", gone, "ops", "leaked"))
    assert ledger.api_key("k123456789") == gone
    told = [
        (one["operation"], one["name"], one["target"], one["by"], one["reason"]) for one in bodies(ledger, "operation")
    ]
    assert told == [
        ("key.new", "k123456789", "key:acct_42", "ops", ""),
        ("key.revoke", "k123456789", "key:acct_42", "ops", "leaked"),
    ]
    # The account and the operator are commitments, so that they can be deleted.
    assert not [one for one in ledger.receipts(Filter(kind="operation")) if b"acct_42" in one.receipt.body]
    assert whole(ledger)


def test_what_an_operator_settles_names_the_operator(ledger: Ledger):
    for name in ("d1", "d2"):
        assert isinstance(ledger.commit(entry(name)), Held)
    ledger.commit(Settle("d1", Settlement.RELEASE, "", "ops"))
    ledger.commit(Settle("d2", Settlement.CAPTURE, "", ""))
    assert [(one["id"], one.get("by")) for one in bodies(ledger, "outcome")] == [("d1", "ops"), ("d2", None)]


def test_freezing_and_unfreezing_are_recorded(ledger: Ledger):
    for what in ("freeze", "freeze", "unfreeze"):
        ledger.commit(Order(what=what, key="actor:key:1", by="ops", reason="odd"))
    assert [one["operation"] for one in bodies(ledger, "operation")] == ["freeze", "unfreeze"]


def test_a_redacted_value_is_gone_in_every_ledger(ledger: Ledger):
    ledger.commit(entry("d1"))
    before = next(ledger.receipts(Filter()))
    assert "actor" in before.receipt.disclosed
    ledger.commit(Record(redaction(["actor"], [1], "gdpr.erasure", "dpo"), erase=("actor",), erase_in=(1,)))
    after = next(ledger.receipts(Filter()))
    assert after.receipt.body == before.receipt.body
    assert set(before.receipt.disclosed) - set(after.receipt.disclosed) == {"actor"}
    assert whole(ledger)


def test_processes_that_start_with_one_policy_record_it_once(ledger: Ledger):
    ledger.commit(entry("d1"))
    for _ in range(3):
        ledger.post(InForce("aa", "enforce"))
    ledger.commit(entry("d2"))
    assert len(bodies(ledger, "policy")) == 1


@pytest.mark.service("postgresql")
def test_a_new_log_on_a_server_keeps_a_copy_of_the_old_one_and_what_counts(clock: FrozenClock):
    from afmiddleware.ledger.epoch_postgres import make_way
    from afmiddleware.ledger.postgres import PostgresReader

    with schema() as url:
        with closing(postgres(url, clock)) as ledger:
            ledger.commit(entry("d1"))
            ledger.commit(InForce("aa", "enforce"))
            old = ledger.head()
        head, held, copy = make_way(parse_postgres(url))
        assert (head, held) == (old, ("d1",))
        with closing(postgres(url, clock)) as ledger:
            item = NewEpoch(old=("", 0, "", ""), reason="x", by="ops", found=("a", 1, "b"), open=held)
            assert isinstance(ledger.commit(item), Closed)
            ledger.commit(Settle("d1", Settlement.RELEASE, "", "ops"))
            kinds = [strict_parse(one.receipt.body)["kind"] for one in ledger.receipts(Filter())]
            assert kinds == ["epoch", "carried", "outcome"]
            assert whole(ledger)
            # The policy in force is remembered.
            assert ledger.commit(InForce("aa", "enforce")) == Closed(booked=False, state="policy")
        try:
            with closing(PostgresReader(parse_postgres(f"{POSTGRES}?schema={copy}"))) as reader:
                assert reader.head() == old
                assert ReceiptLog(reader, ReceiptKeys.derive(SECRET)).verify().checked == 2
        finally:
            with admin() as connection:
                connection.execute(f'DROP SCHEMA "{copy}" CASCADE')
