"""Which fields sway a decision, and which receipts say enough to decide once more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from afmiddleware.policy.replay import advice, reads, record_of, record_of_case, replay, replay_each
from afmiddleware.policy.suite import Case
from tests.unit.policy.test_language import at, event, policy, rule

BODY: dict[str, Any] = {
    "kind": "intent",
    "id": "d1",
    "ts": 0,
    "capability": "payments.transfer",
    "category": "",
    "network": "",
    "environment": "",
    "route": "POST /pay",
    "tier": "token",
    "amount": "",
    "currency": "",
    "exponent": 0,
    "verdict": "allow",
    "code": "policy.allowed",
    "rule": "payments.*",
}
ACTOR = {"actor": (b"", "key:a"), "recipient": (b"", None)}


def test_what_sways_a_decision() -> None:
    rules = policy(
        [rule(roles=["a"], scopes=["b"], currency=["USD"])],
        [rule(when={"currency": {"eq": "USD"}}, observe=1)],
        [rule(when={"payload.x": {"eq": "1"}})],
        {"high": "deny"},
        ["key:z"],
    )
    assert reads(rules, "payments.transfer") == {
        "risk", "actor.id", "actor.roles", "actor.scopes", "amount", "currency", "payload.x",
    }  # fmt: skip
    assert reads(policy([rule()]), "payments.transfer") == frozenset()


def test_only_decisions_are_records() -> None:
    assert record_of({**BODY, "kind": "outcome"}, {}) is None
    record = record_of(BODY, ACTOR)
    assert record is not None
    assert (record.event.method, record.event.actor.id) == ("POST", "key:a")
    assert record.unknown == {"recipient", "resource", "category", "network"}
    refusal = record_of({**BODY, "kind": "refusal", "route": ""}, {})
    assert refusal is not None
    assert refusal.event.method == ""
    assert {"amount", "actor.id"} <= refusal.unknown


def test_what_was_not_kept_is_undecidable() -> None:
    record = record_of(BODY, ACTOR)
    assert record is not None
    assert replay(policy([rule()]), [record]).reproduced == 1
    assert replay(policy([rule(when={"recipient": {"eq": "x"}})]), [record]).undecidable == {"recipient not kept": 1}
    hidden = record_of(BODY, {})
    assert hidden is not None
    assert replay(policy([rule()], frozen=["key:*"]), [hidden]).undecidable == {"actor.id not kept": 1}
    opened = replay(policy([rule()], risk={"high": "deny"}), [record])
    assert (opened.undecidable, opened.changed, opened.newly_allowed, opened.blocked) == ({"risk not kept": 1}, 0, 0, 0)


@pytest.mark.parametrize(("currency", "code"), [("EUR", "currency.mismatch"), ("USD", "policy.allowed")])
def test_a_refusal_for_its_currency_is_decided_again(currency: str, code: str) -> None:
    told = {"kind": "refusal", "amount": "500", "currency": currency, "exponent": 2}
    record = record_of({**BODY, **told, "verdict": "deny", "code": "currency.mismatch"}, ACTOR)
    assert record is not None
    again = replay(policy([rule(max_amount="20 USD")]), [record])
    changed = [] if code == "currency.mismatch" else [code]
    assert (again.undecidable, [change.new.code for change in again.changes]) == ({}, changed)


def test_without_the_policy_that_decided_nothing_is_decided_again() -> None:
    record = record_of({**BODY, "policy": "d1"}, ACTOR)
    assert record is not None
    found = replay_each({"d1": policy([rule()])}.get, [record, msgspec.structs.replace(record, policy="d2")])
    assert (found.total, found.reproduced) == (2, 1)
    assert found.undecidable == {"the policy that decided not kept": 1}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("recipient not kept", "receipts.payload: fields keeps it, where the action has one"),
        ("actor.id not kept", "kept unless receipts.redact names actor, or it was redacted"),
        (
            "the policy that decided not kept",
            "files of up to 4 MiB are kept (bindings in code: its key file is needed); --policy names another",
        ),
        ("actor.scopes not kept", "no setting keeps it for a replay; a trace of cases has it (docs/policy.md)"),
        ("decided by request.ambiguous", "no rule decided that, so no rules can again"),
    ],
)
def test_what_would_have_kept_it_is_said(missing: str, said: str) -> None:
    assert advice(missing) == said


def test_a_traced_event_is_decided_at_its_own_time_or_at_that_of_the_run() -> None:
    office, night = at("2026-11-23T12:00:00"), at("2026-11-23T23:00:00")
    rules = policy([rule(when={"time": {"in": "office"}})])
    cases = [Case(name="c", event=event(), now=now, expect={"verdict": "allow"}) for now in (office, night, None)]
    assert [replay(rules, [record_of_case(one, office)]).reproduced for one in cases] == [1, 0, 1]
    assert [replay(rules, [record_of_case(one, night)]).reproduced for one in cases] == [1, 0, 0]


def test_what_a_receipt_kept_is_decided_by() -> None:
    record = record_of({**BODY, "category": "travel", "network": "eip155:1"}, ACTOR)
    assert record is not None
    assert record.unknown == {"recipient", "resource"}
    kept = policy([rule(when={"category": {"eq": "travel"}, "network": {"eq": "eip155:1"}})])
    again = replay(kept, [record])
    assert (again.reproduced, again.blocked, again.newly_allowed) == (1, 0, 0)
    other = replay(policy([rule(when={"category": {"eq": "food"}})]), [record])
    assert (other.reproduced, other.blocked, other.newly_allowed) == (0, 1, 0)
