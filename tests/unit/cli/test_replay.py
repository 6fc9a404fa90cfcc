"""`replay` and `fence.replay()`: what was decided, decided once more; what was not kept is never called reproduced."""

from __future__ import annotations

import json

import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.testing import FrozenClock
from tests.unit.cli.conftest import written

POLICY = """version: 1
service: shop
environment: live
ledger: sqlite:///fence.db
rules:
  deny: [{id: evil, capability: pay.*, when: {recipient: evil}}]
  allow:
    - {id: pay, capability: pay.out, max_amount: 20 USD}
    - {id: body, capability: pay.body, when: {payload.n: {lt: 5}}}
    - {id: scoped, capability: pay.scoped, scopes: [pay]}
limits:
  - {name: daily, spend: 25 USD, window: day}
"""
ACTS = (
    ("out", "5 USD", "acme"),
    ("out", "15 USD", "acme"),
    ("out", "15 USD", "acme"),  # over the limit
    ("out", "21 USD", "acme"),  # over the cap
    ("out", "1 USD", "evil"),
    ("body", "1 USD", "acme"),
    ("scoped", "1 USD", "acme"),
    ("none", "1 USD", "acme"),
    ("out", "1 USD", None),  # a recipient that may be there and was not kept
)


def play(policy) -> None:
    fence = Fence.from_file(policy, env={}, clock=FrozenClock())
    try:
        for action, amount, recipient in ACTS:
            event = ActionEvent.create(
                actor="a",
                resource="pay",
                action=action,
                amount=Money.parse(amount),
                recipient=recipient,
                payload={"n": 1},
            )
            try:
                with fence.action(event):
                    pass
            except ActionRefused:
                pass
    finally:
        fence.close()


@pytest.fixture
def played(tmp_path):
    policy = written(tmp_path, text=POLICY)
    play(policy)
    return policy


MISSING = {
    "actor.scopes not kept": 1,
    "decided by spend.exceeded": 1,
    "payload not kept": 1,
    "recipient not kept": 1,
}

NO_SETTING = "no setting keeps it for a replay; a trace of cases has it (docs/policy.md)"
KEPT_BY = {
    "actor.scopes not kept": NO_SETTING,
    "decided by spend.exceeded": "no rule decided that, so no rules can again",
    "payload not kept": NO_SETTING,
    "recipient not kept": "receipts.payload: fields keeps it, where the action has one",
}


def test_the_policy_that_wrote_a_ledger_reproduces_what_was_kept(afm, played, tmp_path):
    ran = afm("replay", tmp_path / "fence.db", "--policy", played, "--json")
    told = ran.json
    assert (ran.code, told["total"], told["reproduced"], told["changed"], told["undecidable"]) == (0, 9, 5, 0, 4)
    assert told["missing"] == MISSING
    assert afm("replay", f"sqlite:///{tmp_path}/fence.db", "--policy", played).out.splitlines() == [
        *(f"undecidable: {count}, {why}; {KEPT_BY[why]}" for why, count in sorted(MISSING.items())),
        "9 total, 5 reproduced, 0 changed, 0 newly allowed, 0 blocked, 4 undecidable",
    ]


def test_a_candidate_tells_what_it_changes(afm, played, tmp_path):
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text(POLICY.replace("recipient: evil", "recipient: acme").replace("20 USD", "4 USD"))
    ran = afm("replay", tmp_path / "fence.db", "--policy", candidate)
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0].startswith("NEWLY ALLOWED ")
    assert lines[0].endswith("(pay.out): deny (policy.denied, evil) -> allow (policy.allowed, pay)")
    assert lines[-1] == "9 total, 0 reproduced, 5 changed, 1 newly allowed, 2 blocked, 4 undecidable"


def test_a_fence_replays_its_own_ledger(played, tmp_path):
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text(POLICY.replace("20 USD", "4 USD"))
    fence = Fence.from_file(played, env={}, clock=FrozenClock())
    try:
        own = fence.replay()
        assert (own.total, own.reproduced, own.changed, own.undecidable) == (9, 5, 0, MISSING)
        other = fence.replay(candidate)
        assert (other.changed, other.blocked, other.newly_allowed) == (2, 2, 0)
        assert fence.replay() == own
    finally:
        fence.close()


def test_a_trace_has_all_of_its_events(afm, played, tmp_path):
    trace = tmp_path / "trace.jsonl"
    lines = [
        {"name": "a", "event": {"capability": "pay.body", "payload": {"n": 1}}, "expect": {"verdict": "allow"}},
        {"name": "b", "event": {"capability": "pay.body", "payload": {"n": 7}}, "expect": {"verdict": "allow"}},
        {"name": "c", "event": {"capability": "pay.none"}, "expect": {"code": "policy.unmatched", "rule": ""}},
        {"name": "d", "event": {"capability": "pay.none", "at": "2026-11-23T12:00:00Z"}, "expect": {"verdict": "deny"}},
    ]
    trace.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    ran = afm("replay", trace, "--policy", played)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "changed b (pay.body): allow (policy.allowed) -> deny (policy.unmatched)",
        "4 total, 3 reproduced, 1 changed, 0 newly allowed, 1 blocked, 0 undecidable",
    ]
    for text, said in (
        (f"{json.dumps(lines[0])}\n\n{{", ":3: this line is not JSON"),
        (f"\n{json.dumps(lines[0])}\n{{}}", ":3: case 2: expect is a map of some of"),
    ):
        trace.write_text(text)
        ran = afm("replay", trace, "--policy", played)
        assert (ran.code, said in ran.err) == (2, True)
    assert "cannot be read" in afm("replay", tmp_path / "no.jsonl", "--policy", played).err


def test_two_policies_over_the_receipts_of_a_ledger(afm, played, tmp_path):
    new = tmp_path / "new.yaml"
    new.write_text(
        POLICY.replace("max_amount: 20 USD", "max_amount: 30 USD").replace("recipient: evil", "recipient: acme")
    )
    ran = afm("diff", played, new, "--receipts", tmp_path / "fence.db", "--json")
    told = ran.json
    assert (ran.code, told["total"], told["changed"], told["newly_allowed"]) == (1, 9, 5, 1)
    assert told["missing"] == MISSING
    codes = [(one["old"]["code"], one["new"]["code"]) for one in told["changes"]]
    # What was paid to acme would be denied; what was denied to evil would be allowed, and comes first.
    assert codes[0] == ("policy.denied", "policy.allowed")
    assert sorted(codes[1:]) == [
        ("amount.over_action_cap", "policy.denied"),
        ("policy.allowed", "policy.denied"),
        ("policy.allowed", "policy.denied"),
        ("policy.unmatched", "policy.denied"),
    ]
    same = afm("diff", played, played, "--receipts", f"sqlite:///{tmp_path}/fence.db")
    assert (same.code, same.out.splitlines()[-1]) == (0, "0 of 9 receipts change, 0 are newly allowed.")
    assert "undecidable: 1, payload not kept" in same.out


@pytest.mark.parametrize("both", [True, False])
def test_a_diff_is_of_cases_or_of_receipts(afm, played, tmp_path, both):
    more = ("--receipts", "x.db", "--cases", "y.yaml") if both else ()
    ran = afm("diff", played, played, *more)
    assert (ran.code, "--cases FILE, or --receipts LEDGER" in ran.err) == (2, True)


def test_whom_the_operator_froze_is_not_newly_allowed(afm, tmp_path):
    """No policy says who is frozen at run time, so no policy can be asked."""
    policy = written(tmp_path, text=POLICY)
    assert afm("freeze", "local:a", "--policy", policy).code == 0
    play(policy)
    told = afm("replay", tmp_path / "fence.db", "--policy", policy, "--json").json
    assert (told["newly_allowed"], told["changed"], told["missing"]["decided by actor.frozen"]) == (0, 0, 5)
    # Whom a policy has refused, another may let in.
    (tmp_path / "other").mkdir()
    stopped = written(tmp_path / "other", text=POLICY + "actors: {'local:a': {enabled: false}}\n")
    play(stopped)
    told = afm("replay", tmp_path / "other" / "fence.db", "--policy", policy, "--json").json
    assert (told["newly_allowed"], "decided by actor.frozen" in told["missing"]) == (3, False)


def test_nothing_decided_is_no_success(afm, played, tmp_path):
    """A gate that compared nothing must not pass."""
    ledger = tmp_path / "fence.db"
    blind = written(
        tmp_path, text=POLICY.replace("deny: [", "deny: [{id: n, capability: '**', when: {payload.n: 9}}, ")
    )
    none = "nothing was compared: none of 9 decisions could be decided again; exit 1\n"
    for arguments in (("replay", ledger, "--policy", blind), ("diff", blind, blind, "--receipts", ledger)):
        ran = afm(*arguments)
        assert (ran.code, ran.err) == (1, none)
        assert f"undecidable: 7, payload not kept; {NO_SETTING}" in ran.out
    (tmp_path / "new").mkdir()
    policy = written(tmp_path / "new", text=POLICY)
    assert afm("freeze", "local:a", "--policy", policy).code == 0
    ran = afm("replay", tmp_path / "new" / "fence.db", "--policy", policy, "--json")
    assert (ran.code, ran.json["total"], ran.err) == (1, 0, "nothing was compared: there is no decision; exit 1\n")


@pytest.mark.parametrize("command", ["replay", "diff"])
def test_what_is_no_ledger_is_told_what_is(afm, played, tmp_path, command):
    cases = tmp_path / "cases.yaml"
    cases.write_text("- {event: {capability: pay.out}, expect: allow}\n")
    named = (cases, "--policy", played) if command == "replay" else (played, played, "--receipts", cases)
    ran = afm(command, *named)
    assert (ran.code, f"{cases}: this is no ledger: name a ledger, its URL or its SQLite file" in ran.err) == (2, True)
    assert ".jsonl" in ran.err
