"""Policies of t402 convert: its README's own examples decide as it says, and what failed open there is closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.cli import main
from afmiddleware.cli.convert_t402 import from_t402
from afmiddleware.config.load import limits_of, load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import read_event


def usdt(value: str, **more: Any) -> dict[str, Any]:
    return {"value": value, "decimals": 6, "symbol": "USDT"} | more


WHOLE: dict[str, Any] = {
    "enabled": True,
    "limits": {
        "perTransaction": usdt("100000000"),
        "hourly": usdt("500000000"),
        "daily": usdt("1000000000"),
        "weekly": usdt("5000000000"),
        "monthly": usdt("10000000000"),
        "yearly": usdt("20000000000"),
    },
    "timeRules": {
        "allowedWindows": [{"days": [1, 2, 3, 4, 5], "startHour": 9, "endHour": 17}],
        "blockedPeriods": [{"start": "2026-01-20T00:00:00Z", "end": "2026-01-21T00:00:00Z", "reason": "maintenance"}],
        "timezone": "Europe/Berlin",
    },
    "merchantRules": {"whitelist": ["0xAddr1", "0xaddr2"], "requireWhitelist": True, "blacklist": ["0xBad"]},
    "networkRules": {"allowedNetworks": ["eip155:8453", "eip155:1"], "blockedNetworks": ["eip155:56"]},
    "categoryRules": {"allowedCategories": ["api_usage"], "blockedCategories": ["gambling"]},
    "approvalConfig": {
        "thresholds": [{"amount": usdt("50000000"), "requiredApprovers": 1, "approvers": ["admin@example.com"]}],
        "timeout": 3600000,
    },
}
PAYMENT: dict[str, Any] = {
    "capability": "payments.send",
    "amount": "10 USDT",
    "recipient": "0xADDR1",
    "network": "eip155:8453",
    "category": "api_usage",
    "at": "2026-01-19T09:00:00Z",
}


def decided(text: str, **changes: Any) -> str:
    fence = Fence(load(text.replace("sqlite:///fence.db", "memory")))
    try:
        told = {name: value for name, value in (PAYMENT | changes).items() if value is not None}
        event, at = read_event(told, fence.config.exponents)
        return fence.plan.policy.decide(event, at or 0).code
    finally:
        fence.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "policy.allowed"),
        ({"amount": "100 USDT", "at": "2026-01-23T16:59:59Z"}, "approval.required"),
        ({"amount": "49.999999 USDT"}, "policy.allowed"),
        ({"amount": "50 USDT"}, "approval.required"),
        ({"amount": "100.000001 USDT"}, "amount.over_action_cap"),
        ({"at": "2026-01-19T08:59:59Z"}, "policy.unmatched"),
        ({"at": "2026-01-19T17:00:00Z"}, "policy.unmatched"),
        ({"at": "2026-01-18T12:00:00Z"}, "policy.unmatched"),  # a Sunday
        ({"at": "2026-01-20T12:00:00Z"}, "policy.unmatched"),  # blocked
        ({"at": "2026-01-21T12:00:00Z"}, "policy.unmatched"),  # stricter: the whole last day
        ({"recipient": "0xother"}, "policy.unmatched"),
        ({"recipient": "0xBAD"}, "policy.denied"),
        ({"network": "eip155:56"}, "policy.denied"),
        ({"network": "eip155:10"}, "policy.unmatched"),
        ({"category": None}, "policy.unmatched"),
        ({"category": "Gambling"}, "policy.denied"),
        ({"capability": "flights.book"}, "policy.unmatched"),
    ],
)
def test_a_whole_policy_decides_as_it_did(changes: dict[str, Any], code: str) -> None:
    assert decided(from_t402(WHOLE), **changes) == code


def test_limits_keep_their_windows() -> None:
    limits = {one.name: (one.cap, one.window.kind, one.window.week_start) for one in limits_of(load(from_t402(WHOLE)))}
    assert limits == {
        "hourly": (500_000_000, "hour", 0),
        "daily": (1_000_000_000, "day", 0),
        "weekly": (5_000_000_000, "week", 6),
        "monthly": (10_000_000_000, "month", 0),
        "yearly": (20_000_000_000, "year", 0),
    }


def test_the_full_shape_is_read_too() -> None:
    full = {
        "name": "Agents",
        "version": "1",
        "limits": WHOLE["limits"],
        "rules": {"merchant": WHOLE["merchantRules"], "custom": [{"id": "c", "expression": "amount > 5"}]},
        "approval": WHOLE["approvalConfig"],
    }
    assert "its parent 'org:1' is not in here; convert it too" in from_t402(full | {"parentId": "org:1"})
    text = from_t402(full)
    assert decided(text) == "policy.allowed"
    assert decided(text, amount="50 USDT") == "approval.required"
    assert "custom rules were never enforced" in text
    assert "custom rules" not in from_t402(WHOLE)


@pytest.mark.parametrize(
    "policy",
    [
        {"enabled": False},
        {"merchantRules": {"requireWhitelist": True}},
        {"merchantRules": {"requireWhitelist": True, "whitelist": []}},
        {"timeRules": {"allowedWindows": [{"days": [1], "startHour": 22, "endHour": 6}]}},
    ],
)
def test_what_allowed_nothing_there_allows_nothing_here(policy: dict[str, Any]) -> None:
    assert decided(from_t402(policy), amount="10 USD") in {"policy.denied", "policy.unmatched"}


def test_an_empty_list_that_is_not_required_restricts_nothing() -> None:
    assert (
        decided(from_t402({"merchantRules": {"whitelist": []}, "networkRules": {}}), amount="10 USD")
        == "policy.allowed"
    )


def test_everything_may_need_an_approval() -> None:
    assert decided(from_t402({"requireApproval": True}), amount="10 USD") == "approval.required"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ([], "no policy of t402"),
        ({"foo": 1}, "no policy of t402"),
        ({"limits": {}, "merchantRule": {}}, "has no 'merchantRule'"),
        ({"limits": {"daily": usdt("abc")}}, "no whole number of minor units"),
        ({"limits": {"daily": usdt("-5")}}, "no whole number of minor units"),
        ({"limits": {"daily": usdt("5"), "hourly": usdt("5", decimals=18)}}, "USDT is written with"),
        ({"limits": {"daily": usdt("5", symbol="USD")}}, "USD has 2 decimals, not 6"),
        ({"limits": 5}, "at limits: expected `object"),
        ({"limits": {"daily": 5}}, "at limits.daily"),
        ({"limits": {"dayly": usdt("5")}}, "unknown field `dayly`"),
        ({"merchantRules": {"whiteList": ["a"]}}, "unknown field `whiteList`"),
        ({"merchantRules": {"whitelist": "a"}}, "at merchantRules.whitelist"),
        (
            {"timeRules": {"allowedWindows": [{"days": [9], "startHour": 1, "endHour": 2}]}},
            "at timeRules.allowedWindows",
        ),
        ({"enabled": "no"}, "at enabled"),
        ({"approvalConfig": {"thresholds": [{"approvers": []}]}}, "missing required field `amount`"),
        ({"timeRules": {"blockedPeriods": [{"start": "soon"}]}}, "a blocked period has a start and an end"),
    ],
)
def test_what_failed_open_there_is_refused(policy: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_t402(policy)


def test_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.json").write_text(json.dumps(WHOLE), "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["import", "t402", str(tmp_path / "p.json"), "--capability", "pay.*"])
    out = capsys.readouterr().out
    assert (ended.value.code, decided(out, capability="pay.send")) == (0, "policy.allowed")
