"""What the operator does at run time, and that a running process heeds it at its next commit."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.cli.common import policy_at
from afmiddleware.config.limits import limits_of
from afmiddleware.identity.address import block_key
from afmiddleware.limits.budget import standings
from afmiddleware.limits.rows import More, Row, Trip
from afmiddleware.model import Actor, Tier
from tests.unit.cli.conftest import POLICY, acted, written

BREAKER = "  - {name: stop, spend: 30 USD, window: day, per: global, on_exceed: trip}\n"
AGENT = "local:agent-7"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path, BREAKER + "  - {name: often, rate: 100/minute}\n  - {name: crowd, concurrent: 3}\n")


def left_open(policy: Path, amount: str) -> str:
    """An action that fails half-way; its reservation's id."""
    names: list[str] = []
    fence = Fence.from_file(policy, env={})
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse(amount)
    )
    with suppress(ZeroDivisionError), fence.action(event) as action:
        names.append(action.id)
        raise ZeroDivisionError
    fence.close()
    return names[0]


def test_a_budget_tells_what_is_used_and_held(afm, policy):
    acted(policy, "5 USD")
    left_open(policy, "7 USD")
    told = {one["limit"]: one for one in afm("budget", AGENT, "--policy", policy, "--json").json["limits"]}
    assert list(told) == ["daily", "stop", "often", "crowd"]
    daily = told["daily"]
    assert (daily["used"], daily["held"], daily["remaining"], daily["cap"]) == (
        "12.00 USD",
        "7.00 USD",
        "13.00 USD",
        "25.00 USD",
    )
    assert daily["resets_at"].endswith("T00:00:00Z")
    assert (told["often"]["used"], told["crowd"]["used"], told["stop"]["breaker"]) == ("2", "0", "closed")
    text = afm("budget", AGENT, "--policy", policy).out
    assert "12.00 USD of" in text
    assert "breaker closed" in text
    assert afm("budget", "local:nobody", "--policy", policy, "--json").json["limits"][0]["used"] == "0.00 USD"


@pytest.mark.parametrize(
    ("target", "code"), [(AGENT, "actor.frozen"), ("payments.*.*", "capability.frozen"), ("all", "capability.frozen")]
)
def test_what_is_frozen_does_not_act_until_it_is_unfrozen(afm, policy, target, code):
    fence = Fence.from_file(policy, env={})
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse("1 USD")
    )
    with fence.action(event):
        pass
    assert afm("freeze", target, "--reason", "odd", "--policy", policy).code == 0
    assert afm("freeze", target, "--policy", policy).code == 1
    # The same process, at its next commit.
    with pytest.raises(ActionRefused) as refused, fence.action(event):
        pass
    assert refused.value.verdict.code == code
    other = ActionEvent.create(actor="agent-8", resource="shop", action="look", environment="live")
    if target != "all":
        with fence.action(other):
            pass
    assert afm("unfreeze", target, "--policy", policy).code == 0
    assert afm("unfreeze", target, "--policy", policy).code == 1
    with fence.action(event):
        pass
    fence.close()
    verified = afm("receipts", "verify", "--policy", policy, "--json")
    assert verified.json["code"] == ""
    shown = afm("receipts", "list", "--kind", "operation", "--policy", policy, "--json").out.splitlines()
    assert len(shown) == 2
    assert '"reason":"odd"' in shown[0]


def test_a_cap_of_one_actor_narrows_and_only_an_override_widens(afm, policy):
    acted(policy)
    assert afm("limits", "get", AGENT, "--policy", policy).code == 1
    assert afm("limits", "set", AGENT, "daily", "3 USD", "--policy", policy).code == 0
    assert acted(policy, "4 USD", "3 USD", "1 USD") == ["spend.exceeded", "done", "spend.exceeded"]
    assert afm("limits", "get", AGENT, "--policy", policy, "--json").json == {
        "daily": {"cap": "3.00 USD", "override": False}
    }
    assert afm("limits", "set", AGENT, "daily", "25 USD", "--policy", policy).out == f"daily of {AGENT}: 25 USD\n"
    wide = afm("limits", "set", AGENT, "daily", "27 USD", "--policy", policy)
    assert wide.code == 0
    assert "27 USD; the policy's 25.00 USD is narrower and holds: let it be wider with --override" in wide.out
    assert acted(policy, "20 USD", "3 USD") == ["done", "spend.exceeded"]
    wider = afm("limits", "set", AGENT, "daily", "27 USD", "--override", "--policy", policy)
    assert wider.out == f"daily of {AGENT}: 27 USD\n"
    assert acted(policy, "3 USD", "2 USD") == ["done", "spend.exceeded"]
    assert afm("budget", AGENT, "--policy", policy, "--json").json["limits"][0]["cap"] == "27.00 USD"
    assert afm("limits", "set", AGENT, "daily", "none", "--policy", policy).code == 0
    assert afm("limits", "set", AGENT, "daily", "none", "--policy", policy).code == 1
    assert afm("limits", "list", "--policy", policy, "--json").json[0] == {
        "limit": "daily",
        "per": "actor",
        "cap": "25.00 USD",
        "window": "day",
    }
    assert "rolling 60s" in afm("limits", "list", "--policy", policy).out


@pytest.mark.parametrize(
    ("target", "asked"), [(AGENT, AGENT), ("address:192.0.2.7", "address:192.0.2.7")], ids=["known", "address"]
)
def test_a_budget_tells_who_is_frozen(afm, policy, target, asked):
    acted(policy)
    before = afm("budget", asked, "--policy", policy, "--json").json
    assert (before["actor"].partition("/")[0], before["frozen"], before["stopped"]) == (asked, False, [])
    afm("freeze", target, "--reason", "odd", "--policy", policy)
    afm("freeze", "payments.**", "--policy", policy)
    after = afm("budget", asked, "--policy", policy, "--json").json
    assert (after["frozen"], after["stopped"]) == (True, ["payments.**"])
    text = afm("budget", asked, "--policy", policy).out
    assert "is frozen: odd\n" in text
    assert "payments.** is frozen for everybody\n" in text


@pytest.mark.parametrize("command", [["set", "address:192.0.2.7", "daily", "1 USD"], ["get", "address:192.0.2.7"]])
def test_no_cap_is_set_for_an_address(afm, policy, command):
    asked = afm("limits", *command, "--policy", policy)
    assert asked.code == 2
    assert "per: address" in asked.err


@pytest.mark.parametrize(
    ("name", "cap"), [("nothing", "1"), ("daily", "5"), ("daily", "5 EUR"), ("often", "5 USD"), ("often", "-1")]
)
def test_a_cap_that_cannot_be_is_a_usage_error(afm, policy, name, cap):
    assert afm("limits", "set", AGENT, name, "--policy", policy, "--", cap).code == 2


def test_a_name_that_is_none_is_answered_with_those_there_are(afm, policy):
    asked = afm("limits", "set", AGENT, "dialy", "5 USD", "--policy", policy)
    assert "the policy has no limit dialy; it has daily, stop, often, crowd" in asked.err
    assert "the policy has no breaker daily; it has stop" in afm("breaker", "reset", "daily", "--policy", policy).err


def test_a_breaker_is_seen_and_closed(afm, policy):
    acted(policy, "20 USD")
    assert afm("breaker", "status", "--policy", policy, "--json").json == [
        {"breaker": "stop", "state": "closed", "of": "", "since": "", "reset": ""}
    ]
    fence = Fence.from_file(policy, env={})
    other = ActionEvent.create(
        actor="agent-8", resource="payments", action="pay", environment="live", amount=Money.parse("15 USD")
    )
    with pytest.raises(ActionRefused), fence.action(other):
        pass
    fence.close()
    seen = afm("breaker", "status", "--policy", policy)
    told = r"stop +open since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; close it with: afmiddleware (breaker reset stop --policy .*)\n"
    shown = re.fullmatch(told, seen.out)
    assert shown is not None
    assert seen.code == 1
    assert acted(policy, "1 USD") == ["breaker.open"]
    assert afm(*shlex.split(shown[1])).code == 0
    assert afm("breaker", "reset", "stop", "--policy", policy).code == 1
    assert acted(policy, "1 USD") == ["done"]
    assert afm("breaker", "reset", "daily", "--policy", policy).code == 2


def test_what_is_in_doubt_is_listed_and_settled(afm, policy):
    one, two = left_open(policy, "7 USD"), left_open(policy, "8 USD")
    listed = afm("reconcile", "--policy", policy, "--json").json
    assert [(row["reservation"], row["state"], row["amount"]) for row in listed] == [
        (one, "unknown", "7.00 USD"),
        (two, "unknown", "8.00 USD"),
    ]
    assert one in afm("reconcile", "--policy", policy).out
    other = afm("reconcile", one, "--capture", "2.50 EUR", "--policy", policy)
    assert other.code == 2
    assert f"{one} is in USD, not in EUR" in other.err
    assert afm("reconcile", one, "--capture", "2.50 USD", "--policy", policy).out == f"{one}: capture\n"
    assert afm("reconcile", one, "--release", "--policy", policy).code == 1
    assert afm("reconcile", two, "--release", "--policy", policy, "--json").json["state"] == "release"
    assert afm("reconcile", "--policy", policy, "--json").json == []
    assert afm("budget", AGENT, "--policy", policy, "--json").json["limits"][0]["used"] == "2.50 USD"
    assert afm("reconcile", "nobody", "--release", "--policy", policy).code == 2
    assert afm("reconcile", one, "--policy", policy).code == 2
    assert afm("receipts", "verify", "--policy", policy, "--json").json["code"] == ""


def test_there_is_nothing_to_tell_of_a_ledger_that_is_not_there(afm, policy):
    for command in (["budget", AGENT], ["reconcile"], ["breaker", "status"], ["limits", "get", AGENT]):
        assert afm(*command, "--policy", policy).code == 2
    assert POLICY.startswith("version: 1")
    assert not (policy.parent / "fence.db").exists()


@pytest.mark.parametrize("command", [["budget"], ["limits", "get"]])
def test_a_bare_name_is_no_actor(afm, policy, command):
    """It had its own empty budget, and `freeze` froze a capability that nobody has."""
    refused = afm(*command, "my-agent", "--policy", policy)
    assert refused.code == 2
    assert "key:my-agent" in refused.err


@pytest.mark.parametrize("target", ["key:bo*", "capability:shop.pay"])
def test_what_names_nobody_is_not_frozen(afm, policy, target):
    refused = afm("freeze", target, "--policy", policy)
    assert refused.code == 2
    assert "TARGET" in refused.err


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("payment.pay.live", "note: no route of {} is payment.pay.live; the nearest is payments.pay.live\n"),
        ("payment.**", "note: no route of {} is payment.**; the nearest is payments.pay.live\n"),
        ("payments.*.live", ""),
        ("shop.look.live", ""),
        ("all", ""),
        ("key:payment", ""),
        ("local:payment", ""),
    ],
)
def test_a_freeze_of_what_no_route_is_says_so(afm, policy, target, said):
    frozen = afm("freeze", target, "--policy", policy)
    assert (frozen.code, frozen.out, frozen.err) == (0, f"{target} is frozen\n", said.format(policy))


def test_a_freeze_of_an_account_without_a_key_says_so(afm, policy):
    """Whose name is mistyped goes on, and nothing told it."""
    afm("keys", "new", "acct_42", "--policy", policy)
    assert afm("freeze", "key:acct_42", "--policy", policy).err == ""
    frozen = afm("freeze", "key:acct_24", "--policy", policy)
    assert (frozen.code, frozen.out) == (0, "key:acct_24 is frozen\n")
    assert frozen.err == "note: acct_24 has no API key in the ledger; those that have: afmiddleware keys list\n"


@pytest.mark.parametrize(("mode", "warned"), [("enforce", False), ("observe", True), ("observe 25%", True)])
def test_a_freeze_says_where_it_stops_nobody(afm, policy, mode, warned):
    policy.write_text(f"{policy.read_text()}mode: {mode}\n")
    frozen = afm("freeze", "all", "--policy", policy)
    assert frozen.code == 0
    assert (f"has mode: {mode}, so whom the fence only observes goes on" in frozen.err) is warned
    assert afm("unfreeze", "all", "--policy", policy).err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["budget", AGENT], "{} has no limits"),
        (["limits", "list"], "{} has no limits"),
        (["limits", "get", AGENT], "no cap is set for local:agent-7; those of {} hold"),
        (["breaker", "status"], "{} has no breaker"),
        (["breaker", "status", "--actor", AGENT], "{} has no breaker"),
        (["reconcile"], "everything is settled"),
    ],
)
def test_where_there_is_nothing_it_is_said(afm, policy, arguments, said):
    policy.write_text(policy.read_text().partition("limits:")[0])
    Fence.from_file(policy, env={}).close()
    asked = afm(*arguments, "--policy", policy)
    assert (asked.out, asked.err) == ("", said.format(policy) + "\n")
    assert afm(*arguments, "--policy", policy, "--json").err == ""


def test_a_bare_name_freezes_nothing(afm, policy):
    refused = afm("freeze", "my-agent", "--policy", policy)
    assert refused.code == 2
    assert "key:my-agent" in refused.err
    assert "my-agent.**" in refused.err


@pytest.mark.parametrize("target", ["address:192.0.2.7", "address:192.0.2.0/24"])
def test_a_frozen_address_is_the_block_that_strangers_are_counted_by(afm, policy, target):
    assert afm("freeze", target, "--policy", policy).code == 0
    fence = Fence.from_file(policy, env={})
    row = fence.ledger.rows([f"actor:address:{block_key('192.0.2.7')}", "actor:address:192.0.2.0/24"])
    fence.close()
    assert [bool(one.more and one.more.frozen) for one in row.values()] == [True]


def test_a_breaker_stays_open_when_what_it_counted_is_swept(policy):
    limits = [one for one in limits_of(policy_at(str(policy))[0]) if one.name == "stop"]
    row = Row({}, more=More(trips={limits[0].cell: Trip(5)}))
    (seen,) = standings([("global", limits[0])], "", {"global": row}, 1_000_000)
    assert (seen.tripped, seen.tripped_at) == (True, 5)


def test_a_budget_tells_every_limit_under_the_caps_that_the_actor_has(afm, tmp_path):
    """A cap under `actors:` was not in it, and limits by other keys were left out."""
    more = """  - {name: life, spend: 500 USD, window: total, per: principal}
  - {name: house, spend: 90 USD, window: day, per: tenant}
  - {name: session, spend: 40 USD, window: session, per: session}
  - {name: each, spend: 15 USD, window: day, per: [actor, recipient]}
actors:
  "local:agent-7": {limits: {daily: 20 USD}}
"""
    policy = written(tmp_path, more)
    acted(policy, "5 USD")
    told = afm("budget", AGENT, "--policy", policy, "--json").json["limits"]
    assert [(one["limit"], one["cap"], one["used"], one["remaining"]) for one in told] == [
        ("daily", "20.00 USD", "5.00 USD", "15.00 USD"),
        ("life", "500.00 USD", "5.00 USD", "495.00 USD"),
        ("house", "90.00 USD", "5.00 USD", "85.00 USD"),
        ("session", "40.00 USD", "", ""),
        ("each", "15.00 USD", "", ""),
    ]
    text = afm("budget", AGENT, "--policy", policy).out
    assert "left    15.00 USD" in text
    assert "counted per actor+recipient" in text
    jwt = afm("budget", "jwt:https://as.example|u", "--policy", policy, "--json").json["limits"]
    assert [one["limit"] for one in jwt if one["used"]] == ["daily"]


def test_a_budget_knows_the_tenant_of_an_api_key(afm, tmp_path):
    policy = written(tmp_path, "  - {name: house, spend: 90 USD, window: day, per: tenant}\n")
    afm("keys", "new", "ann", "--tenant", "acme", "--policy", policy)
    fence = Fence.from_file(policy, env={})
    for tenant, amount in (("acme", "3 USD"), ("other", "4 USD")):
        actor = Actor(id=f"key:of-{tenant}", account="x", tenant=tenant, tier=Tier.TOKEN)
        with fence.action(ActionEvent(capability="payments.pay.live", actor=actor, amount=Money.parse(amount))):
            pass
    fence.close()
    told = afm("budget", "key:ann", "--policy", policy, "--json").json["limits"]
    assert [one["used"] for one in told] == ["0.00 USD", "3.00 USD"]


def test_limits_are_listed_as_an_actor_has_them(afm, policy):
    policy.write_text(policy.read_text() + 'actors:\n  "local:agent-7": {limits: {often: 7/minute}}\n')
    acted(policy)
    afm("limits", "set", AGENT, "daily", "3 USD", "--policy", policy)
    listed = afm("limits", "list", AGENT, "--policy", policy, "--json").json
    assert [(one["limit"], one["cap"]) for one in listed] == [
        ("daily", "3.00 USD"),
        ("stop", "30.00 USD"),
        ("often", "7"),
        ("crowd", "3"),
    ]


def test_a_limit_of_everybody_has_no_cap_of_one(afm, policy):
    refused = afm("limits", "set", AGENT, "stop", "5 USD", "--policy", policy)
    assert refused.code == 2
    assert "stop counts everybody together" in refused.err


def test_a_breaker_is_closed_for_somebody(afm, tmp_path):
    more = "  - {name: stop, spend: 9 USD, window: day, per: [actor, tenant], on_exceed: trip}\n"
    policy = written(tmp_path, more)
    acted(policy)
    refused = afm("breaker", "reset", "stop", "--policy", policy)
    assert (refused.code, "--actor key:... --of tenant=..." in refused.err) == (2, True)
    assert afm("breaker", "reset", "stop", "--of", "recipient=x", "--policy", policy).code == 2
    assert afm("breaker", "reset", "stop", "--actor", "key:a", "--of", "tenant=x", "--policy", policy).code == 1
