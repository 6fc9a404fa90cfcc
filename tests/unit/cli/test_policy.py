"""The operator makes one policy the only one, and a running process heeds it at its next commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.cli.common import who
from tests.unit.cli.conftest import acted, written


def pays(fence: Fence) -> str:
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse("1 USD")
    )
    try:
        with fence.action(event) as action:
            return action.verdict.code
    except ActionRefused as error:
        return error.verdict.code


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.fixture
def other(policy: Path) -> Path:
    """Another file beside it, on the same ledger."""
    place = policy.with_name("other.yaml")
    place.write_text(policy.read_text("utf-8") + "metadata: {v: '2'}\n", "utf-8")
    return place


def test_nothing_is_in_force_before_the_first_decision(afm, policy):
    Fence.from_file(policy, env={}).close()
    found = afm("policy", "status", "--policy", policy)
    assert (found.code, "no policy was put in force yet" in found.out) == (0, True)
    told = afm("policy", "status", "--policy", policy, "--json").json
    assert (told["generation"], told["policy"], told["superseded"]) == (0, "", [])
    assert told["file"]["decides"]


def test_the_status_names_what_is_in_force(afm, policy, other):
    acted(policy, "1 USD")
    found = afm("policy", "status", "--policy", policy)
    assert found.code == 0
    assert "generation 1: policy " in found.out
    assert "is what is in force" in found.out
    beside = afm("policy", "status", "--policy", other)
    assert (beside.code, "decides where it runs" in beside.out) == (0, True)


def test_an_activated_policy_is_the_only_one_until_it_is_released(afm, policy, other):
    with_it, without = Fence.from_file(policy, env={}), Fence.from_file(other, env={})
    assert [pays(with_it), pays(without)] == ["policy.allowed"] * 2
    done = afm("policy", "activate", "--policy", policy, "--reason", "incident 7")
    assert (done.code, done.err) == (0, "")
    assert "is the only policy that may decide (generation 3)" in done.out
    assert [pays(with_it), pays(without)] == ["policy.allowed", "policy.unavailable"]
    started = Fence.from_file(other, env={})
    assert pays(started) == "policy.unavailable"
    again = afm("policy", "activate", "--policy", policy)
    assert (again.code, again.err) == (1, "nothing changes\n")

    status = afm("policy", "status", "--policy", policy)
    assert ", the only one that may decide" in status.out
    refused = afm("policy", "status", "--policy", other, "--json")
    assert (refused.code, refused.json["file"]["decides"], refused.json["pinned"]) == (1, False, True)
    assert refused.json["policy"] == with_it.plan.file
    assert refused.json["superseded"] == [without.plan.file]

    shown = afm("receipts", "list", "--kind", "policy", "--policy", policy)
    assert f"activate: {with_it.plan.file[:16]}, enforce" in shown.out
    released = afm("policy", "release", "--policy", policy)
    assert released.out == "other policies may be put in force again (generation 3)\n"
    assert afm("policy", "release", "--policy", policy).code == 1
    # What was active before the pin is superseded by it; a start brings it back.
    assert pays(without) == "policy.unavailable"
    for fence in (with_it, without, started):
        fence.close()
    assert acted(other, "1 USD")


def test_who_activated_it_and_why_is_on_record(afm, policy):
    acted(policy, "1 USD")
    assert afm("policy", "activate", "--policy", policy, "--reason", "incident 7", "--json").json["done"]
    fence = Fence.from_file(policy, env={})
    [told] = [one.receipt.disclosed for one in fence.receipts if b'"kind":"policy"' in one.receipt.body]
    fence.close()
    assert {name: value for name, (_, value) in told.items()} == {"by": who(), "reason": "incident 7"}


def test_a_policy_may_be_activated_before_anything_decides(afm, policy, other):
    Fence.from_file(policy, env={}).close()
    assert afm("policy", "activate", "--policy", other).code == 0
    fence = Fence.from_file(policy, env={})
    assert pays(fence) == "policy.unavailable"
    fence.close()


def test_a_wrong_policy_is_not_activated(afm, policy):
    acted(policy, "1 USD")
    policy.write_text(policy.read_text("utf-8") + "lists: {banned: {file: missing.txt}}\n", "utf-8")
    found = afm("policy", "activate", "--policy", policy)
    assert found.code == 2
    assert "missing.txt" in found.err


def test_the_digest_covers_the_files_of_lists(afm, policy):
    policy.write_text(policy.read_text("utf-8") + "lists: {banned: {file: banned.txt}}\n", "utf-8")
    policy.with_name("banned.txt").write_text("a\n", "utf-8")
    acted(policy, "1 USD")
    assert afm("policy", "activate", "--policy", policy).code == 0
    policy.with_name("banned.txt").write_text("b\n", "utf-8")
    assert afm("policy", "status", "--policy", policy).code == 1


def test_the_text_of_a_policy_is_shown(afm, policy, other):
    acted(policy, "1 USD")
    text = policy.read_text("utf-8")
    digest = afm("policy", "status", "--policy", policy, "--json").json["policy"]
    policy.write_text(text + "lists: {banned: {file: banned.txt}}\n", "utf-8")
    policy.with_name("banned.txt").write_text("local:b\n", "utf-8")
    assert afm("policy", "show", digest[:16], "--policy", policy).out == text
    assert afm("policy", "show", digest, "--policy", policy, "--json").json == {
        "policy": digest,
        "text": text,
        "lists": {},
    }
    assert afm("policy", "activate", "--policy", policy).code == 0
    now = afm("policy", "status", "--policy", policy, "--json").json["policy"]
    assert afm("policy", "show", now, "--policy", policy).out.endswith("# the file of the list banned\nlocal:b\n")
    none = afm("policy", "show", "0" * 16, "--policy", policy)
    assert (none.code, "was kept" in none.err) == (1, True)
    assert afm("policy", "show", "fence", "--policy", policy).code == 2


def test_a_ledger_is_replayed_by_the_policies_that_decided(afm, policy, tmp_path, monkeypatch):
    acted(policy, "1 USD", "2 USD")
    policy.write_text(policy.read_text("utf-8").replace("max_amount: 20 USD", "max_amount: 1 USD"), "utf-8")
    acted(policy, "1 USD", "2 USD")
    ledger = tmp_path / "fence.db"
    monkeypatch.setenv("AFM_POLICY", str(policy))
    own = afm("replay", ledger, "--json")
    assert (own.code, own.json["total"], own.json["reproduced"]) == (0, 4, 4)
    named = afm("replay", ledger, "--policy", policy, "--json")
    assert (named.code, named.json["changed"], named.json["blocked"]) == (1, 1, 1)
    monkeypatch.delenv("AFM_POLICY")
    monkeypatch.chdir(tmp_path)
    policy.rename(tmp_path / "other.yaml")
    assert afm("replay", ledger, "--json").json["reproduced"] == 4
