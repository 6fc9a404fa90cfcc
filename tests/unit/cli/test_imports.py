"""Converted policies decide as their documents say, or stricter, and say where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import read_event

GUARD = {
    "service": "travel",
    "version": "1",
    "actions": {
        "search_*": {"allowed": True},
        "book_*": {"allowed": True, "identity": "token"},
        "book_flight": {"allowed": True, "identity": "verified", "max_spend": 500.5, "requires_human_approval": False},
        "book_bulk": {"allowed": False},
        "delete_*": {"allowed": False},
        "delete_draft": {"allowed": True},
        "wire": {"allowed": True, "requires_human_approval": True},
        "POST /bookings/:id": {"allowed": True, "identity": "token"},
    },
    "rate_limits": {"requests_per_minute": 30, "transactions_per_day": 0},
    "spend_limits": {
        "session_max": 100, "daily_max": 500, "currency": "EUR",
        "window": {"max_amount": 50, "duration_minutes": 60},
    },
    "circuit_breaker": {"global_max_spend": 10000, "action": "alert_only"},
}  # fmt: skip
CAP = """
policy_name: shell
extends: base.yaml
deny:
  - capability: shell.exec
    contains: "rm -rf"
  - capability: pay.send
    amount_gt: 5000
require_approval:
  - {capability: pay.send, amount_gte: 1000, environment: [production, staging]}
allow:
  - fs.read
  - {capability: pay.send, user_role: clerk}
  - {capability: db.query, match_regex: "^select"}
  - {capability: sub.call.production, caller_depth_lte: 2, tenant: t1}
rules:
  - {capability: old.thing, action: block}
risk_levels: {critical: {action: block}, high: {action: require_approval}, medium: {action: warn}, low: {action: allow}}
"""
BASE = "deny: [fs.write]\nallow: [fs.list]\n"


def decided(text: str, event: dict[str, Any]) -> str:
    fence = Fence(load(text.replace("sqlite:///fence.db", "memory")))
    try:
        return fence.plan.policy.decide(read_event(event, {})[0]).code
    finally:
        fence.close()


@pytest.fixture
def guard(afm, tmp_path):
    def convert(**changes):
        (tmp_path / "guard.json").write_text(json.dumps(GUARD | changes))
        ran = afm("import", "actionfence", tmp_path / "guard.json")
        assert ran.code == 0, ran.err
        return ran.out

    return convert


VERIFIED = {"id": "v", "tier": "verified"}
ROWS = [
    ({"capability": "search_hotels", "actor": "address:x"}, "policy.allowed"),
    ({"capability": "book_hotel", "actor": "address:x"}, "identity.required"),
    ({"capability": "book_hotel", "actor": "t"}, "policy.allowed"),
    ({"capability": "book_flight", "actor": "t", "amount": "1 EUR"}, "policy.denied"),  # the narrower name demands more
    ({"capability": "book_flight", "actor": VERIFIED, "amount": "500.50 EUR"}, "policy.allowed"),
    ({"capability": "book_flight", "actor": VERIFIED, "amount": "500.51 EUR"}, "policy.denied"),
    ({"capability": "book_bulk", "actor": VERIFIED}, "policy.denied"),
    ({"capability": "delete_draft", "actor": VERIFIED}, "policy.denied"),  # stricter, and the comment says so
    ({"capability": "wire"}, "approval.required"),
    ({"capability": "post.bookings_id"}, "policy.allowed"),
    ({"capability": "other"}, "policy.unmatched"),
]


@pytest.mark.parametrize(("event", "code"), ROWS)
def test_actionfence(guard, event, code):
    assert decided(guard(), event) == code


def test_actionfence_defaults_and_limits(guard):
    text = guard()
    assert "stricter: delete_draft was allowed all the same; here a deny wins" in text
    assert "route: POST /bookings/{id}" in text.replace('"', "")
    limits = {limit.name: limit for limit in load(text).limits}
    assert list(limits) == ["requests", "session", "daily", "window", "breaker"]
    assert (limits["window"].spend, limits["window"].window) == ("50 EUR", "rolling 60m")
    opened = guard(default_rule="allow")
    assert decided(opened, {"capability": "other", "actor": "address:x"}) == "policy.allowed"
    assert decided(opened, {"capability": "book_hotel", "actor": "address:x"}) == "policy.denied"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "expected `object`, got `array`"),
        ({"service": "s", "version": "1"}, "missing required field `actions`"),
        (GUARD | {"actions": {}}, "at actions"),
        (GUARD | {"service": ""}, "at service"),
        ({"version": "1", "actions": GUARD["actions"]}, "missing required field `service`"),
        (GUARD | {"default_rule": "maybe"}, "at default_rule: invalid enum value 'maybe'"),
        (GUARD | {"default_rules": "deny"}, "unknown field `default_rules`"),
        (GUARD | {"actions": {"a b": {"allowed": True}, "a_b": {"allowed": True}}}, "same capability"),
        (GUARD | {"actions": {"a": {"allowed": True, "max_spendd": 5}}}, "unknown field `max_spendd`"),
        (GUARD | {"actions": {"a": {"allowed": "yes"}}}, "expected `bool`, got `str`"),
        (GUARD | {"actions": {"a": {}}}, "missing required field `allowed`"),
        (GUARD | {"spend_limits": {"session_max": -1, "currency": "USD"}}, "at spend_limits.session_max"),
        (GUARD | {"spend_limits": {"session_max": 5}}, "spend_limits need a currency"),
    ],
)
def test_what_is_no_guard_policy(afm, tmp_path, document, said):
    (tmp_path / "guard.json").write_text(json.dumps(document))
    ran = afm("import", "actionfence", tmp_path / "guard.json")
    assert (ran.code, ran.out, said in ran.err) == (2, "", True)


EXAMPLE = {
    "service": "flights", "version": "1.0", "default_rule": "deny",
    "actions": {
        "GET /flights": {"allowed": True, "identity": "any"},
        "POST /bookings": {"allowed": True, "identity": "verified", "max_spend": 1000, "currency": "USD",
                           "requires_human_approval": True, "schema_hash": "sha256:00"},
        "GET /bookings/:id": {"allowed": True, "identity": "token"},
        "DELETE /bookings/:id": {"allowed": False},
        "GET /a/*": {"allowed": True},
    },
    "rate_limits": {"requests_per_minute": 60, "transactions_per_day": 10},
    "regulations": ["EU_AI_Act_Art50"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"capability": "get.flights", "actor": "address:x"}, "policy.allowed"),
        ({"capability": "get.bookings_id", "actor": "address:x"}, "identity.required"),
        ({"capability": "get.bookings_id"}, "policy.allowed"),
        ({"capability": "post.bookings", "actor": VERIFIED, "amount": "1000 USD"}, "approval.required"),
        ({"capability": "post.bookings", "actor": VERIFIED, "amount": "1000.01 USD"}, "amount.over_action_cap"),
        ({"capability": "delete.bookings_id", "actor": VERIFIED}, "policy.denied"),
        ({"capability": "get.a_b"}, "policy.allowed"),
        ({"capability": "get.about"}, "policy.unmatched"),
        ({"capability": "get.other"}, "policy.unmatched"),
    ],
)
def test_actionfence_over_http(afm, tmp_path, event, code):
    (tmp_path / "guard.json").write_text(json.dumps(EXAMPLE))
    ran = afm("import", "actionfence", tmp_path / "guard.json")
    assert decided(ran.out, event) == code
    config = load(ran.out)
    assert config.metadata == {"regulations": ["EU_AI_Act_Art50"]}
    assert [(one.name, one.capability, one.counts) for one in config.limits] == [
        ("requests", "", None),
        ("transactions", "post.bookings", "admitted"),
    ]
    assert "# not converted: the schemas that were pinned of POST /bookings" in ran.out
    assert "# code took the amounts there: map them" in ran.out


def test_actionfence_says_where_an_approval_is_wider(guard):
    actions = {"book_*": {"allowed": True, "requires_human_approval": True}, "book_seat": {"allowed": True}}
    text = guard(actions=actions, rate_limits={"transactions_per_day": 3})
    assert "# stricter: book_seat needed none there; here it does" in text
    assert decided(text, {"capability": "book_seat"}) == "approval.required"
    assert 'rate: 3/day, counts: admitted, capability: "book_*"' in text
    both = guard(
        actions={"a": {"allowed": True, "max_spend": 5}, "b": {"allowed": True, "max_spend": 5}},
        rate_limits={"transactions_per_day": 3},
    )
    assert "# stricter: counted what has an amount or needs an approval; add a capability to say so" in both
    assert load(both).limits[0].capability == ""


CLERK = {"id": "c", "roles": ["clerk"]}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"capability": "fs.read.production"}, "policy.allowed"),
        ({"capability": "fs.list"}, "policy.allowed"),
        ({"capability": "fs.write.production"}, "policy.denied"),
        ({"capability": "shell.exec.production"}, "policy.denied"),  # stricter: contains named no field
        ({"capability": "pay.send", "actor": CLERK, "amount": "1 USD"}, "policy.allowed"),
        ({"capability": "pay.send", "actor": "c", "amount": "1 USD"}, "policy.unmatched"),
        (
            {"capability": "pay.send", "actor": CLERK, "amount": "1000 USD", "environment": "staging"},
            "approval.required",
        ),
        ({"capability": "pay.send", "actor": CLERK, "amount": "1000 USD", "environment": "dev"}, "policy.allowed"),
        ({"capability": "pay.send", "actor": CLERK, "amount": "5001 USD"}, "policy.denied"),
        ({"capability": "db.query"}, "policy.unmatched"),  # stricter: an allow rule that cannot be said is left out
        ({"capability": "sub.call.production", "actor": {"id": "a", "tenant": "t1", "depth": 2}}, "policy.allowed"),
        ({"capability": "sub.call.production", "actor": {"id": "a", "tenant": "t1", "depth": 3}}, "policy.unmatched"),
        ({"capability": "old.thing"}, "policy.denied"),
        ({"capability": "fs.read", "risk": "critical"}, "policy.denied"),
        ({"capability": "fs.read", "risk": "high"}, "approval.required"),
    ],
)
def test_capfence(afm, tmp_path, event, code):
    (tmp_path / "policy.yaml").write_text(CAP)
    (tmp_path / "base.yaml").write_text(BASE)
    ran = afm("import", "capfence", tmp_path / "policy.yaml")
    assert ran.code == 0, ran.err
    assert decided(ran.out, event) == code
    assert "stricter: without contains, which names no field of the payload" in ran.out
    assert "stricter: left out, for match_regex" in ran.out


@pytest.mark.parametrize(
    ("text", "said"),
    [("extends: policy.yaml", "extends itself"), ("- a", "not a map"), ("a: [", "neither JSON nor YAML"), ("a: 1\na: 2", "stands twice")],
)  # fmt: skip
def test_what_is_no_policy_of_capfence(afm, tmp_path, text, said):
    (tmp_path / "policy.yaml").write_text(text)
    ran = afm("import", "capfence", tmp_path / "policy.yaml")
    assert (ran.code, ran.out, said in ran.err) == (2, "", True)
