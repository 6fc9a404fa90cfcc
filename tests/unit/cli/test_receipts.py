"""The log as a person reads it, and as `verify` judges it: whole, tampered, unanchored or unreadable."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from afmiddleware.fence import Fence, system_clock
from afmiddleware.model import Draft, Entry, Verdict
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.testing import FrozenClock
from tests.unit.cli.conftest import POLICY, SECRET, acted, written

ANCHORED = "receipts:\n  anchor: {file: far/anchor.json, every: 1s}\n"
KEYED = 'receipts:\n  mac_key: "${AFM_RECEIPT_KEY}"\n  anchor: {file: far/anchor.json}\n'
FORGED = "CAST(replace(CAST(body AS TEXT), '1250', '1251') AS BLOB)"
REST = "body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed"


@pytest.fixture
def log(tmp_path):
    """The policy of a log with two intents, their outcomes and two refusals, anchored."""
    policy = written(tmp_path, ANCHORED)
    told = acted(policy, "12.50 USD", "10 USD", "9 USD", "21 USD")
    assert told == ["done", "done", "spend.exceeded", "amount.over_action_cap"]
    return policy


def changed(policy, statement, *values):
    """Change the database behind the fence's back."""
    with closing(sqlite3.connect(policy.with_name("fence.db"))) as database, database:
        assert database.execute(statement, values).rowcount == 1


def listed(afm, policy, *options):
    ran = afm("receipts", "list", "--policy", policy, "--json", *options)
    assert (ran.code, ran.err) == (0, "")
    return [json.loads(line) for line in ran.out.splitlines()]


def test_the_log_is_listed_in_its_order(afm, log):
    ran = afm("receipts", "list", "--policy", log)
    heading, *lines = ran.out.splitlines()
    assert ran.code == 0
    assert heading.split() == ["seq", "time", "(UTC)", "kind", "verdict", "capability", "amount", "code"]
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    first = next(line for line in lines if " intent " in line)
    assert "payments.pay.live" in first
    assert "12.50 USD" in first
    told = listed(afm, log)
    assert [one["seq"] for one in told] == [1, 2, 3, 4, 5, 6]
    assert sorted(one["kind"] for one in told) == ["intent", "intent", "outcome", "outcome", "refusal", "refusal"]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--kind", "intent"], 2),
        (["--kind", "refusal"], 2),
        (["--capability", "payments.pay.live", "--kind", "intent"], 2),
        (["--capability", "shop.look.live"], 0),
        (["--verdict", "refuse"], 2),
        (["--since", "2001-01-01T00:00:00.123456Z"], 6),
        (["--until", "2001-01-01T02:00:00+02:00"], 0),
        (["--last", "3"], 3),
        (["--last", "99"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_list_can_be_narrowed(afm, log, options, count):
    assert len(listed(afm, log, *options)) == count


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_what_is_no_time_is_told_with_one_that_is(afm, log, option):
    ran = afm("receipts", "list", "--policy", log, option, "yesterday")
    assert (ran.code, ran.out) == (2, "")
    assert "'yesterday' is no time; write 2026-11-21, or 2026-11-21T12:00:00Z" in ran.err


def test_what_a_receipt_shows_is_a_time_to_list_from(afm, log):
    shown = afm("receipts", "show", 4, "--policy", log).out
    at = shown.split()[2].removesuffix(":")
    assert min(one["seq"] for one in listed(afm, log, "--since", at)) <= 4
    assert all(one["seq"] < 4 for one in listed(afm, log, "--until", at))


def test_a_refusal_without_a_capability_is_listed_by_its_route(afm, tmp_path):
    policy = written(tmp_path)
    clock = FrozenClock()
    with closing(Fence.from_file(policy, env={}, clock=clock)) as fence:
        decision = fence.new_id(clock())
        verdict = Verdict(authorized=False, code="route.unmapped")
        told = {"id": decision, "verdict": "refuse", "code": "route.unmapped", "route": "GET /static"}
        fence.commit(
            Entry(id=decision, owner="key:a", verdict=verdict, record=lambda _: Draft("refusal", "key:a", told))
        )
    line = afm("receipts", "list", "--policy", policy).out.splitlines()[-1]
    assert line.split()[3:] == ["refusal", "refuse", "GET", "/static", "route.unmapped"]


def test_a_refusal_that_passed_is_marked_in_the_list(afm, tmp_path):
    policy = written(tmp_path, "mode: observe\n")
    assert acted(policy, "50 USD") == ["done"]
    listed = afm("receipts", "list", "--policy", policy).out.splitlines()
    assert [one.rpartition("  ")[2] for one in listed if " intent " in one] == ["amount.over_action_cap, observed"]


def test_one_receipt_and_one_decision_can_be_shown(afm, log):
    intent = listed(afm, log, "--kind", "intent")[0]
    text = afm("receipts", "show", intent["seq"], "--policy", log)
    assert text.code == 0
    assert text.out.startswith(f"receipt {intent['seq']}, 20")
    assert intent["leaf"] in text.out
    assert afm("receipts", "show", intent["seq"], "--policy", log, "--json").json == [intent]
    for name in (intent["id"], f"urn:afm:decision:{intent['id']}"):
        both = afm("receipts", "show", name, "--policy", log, "--json").json
        assert [one["kind"] for one in both] == ["intent", "outcome"]
        assert both[1]["ref"] == intent["leaf"]


def test_a_receipt_is_shown_as_a_person_reads_it(afm, log):
    decided, ended = (afm("receipts", "show", one["seq"], "--policy", log).out for one in listed(afm, log)[:2])
    if "outcome" in decided.splitlines()[0]:
        decided, ended = ended, decided
    lines = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in decided.splitlines()}
    assert lines["verdict"] == "allowed"
    assert lines["why"].endswith("(policy.allowed)")
    assert lines["rule"] == "allow[1]"
    assert lines["action"].startswith("payments.pay.live, 12.50 USD")
    assert lines["charged"] == "daily 12.50 USD"
    assert lines["actor"].endswith(", token")
    assert re.match(r"receipt \d+, 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z: intent", decided)
    refused = listed(afm, log, "--kind", "refusal")[0]
    assert "The amount" in afm("receipts", "show", refused["seq"], "--policy", log).out or refused["limit"] == "daily"


def test_a_decision_that_was_only_counted_says_in_which_record(afm, tmp_path):
    policy = written(tmp_path)
    clock = FrozenClock()
    with closing(Fence.from_file(policy, env={}, clock=clock)) as fence:
        decision = fence.new_id(clock())
        verdict = Verdict(authorized=False, code="identity.required")
        draft = Draft("refusal", "anonymous", {"id": decision})
        item = Entry(
            id=decision, owner="anonymous", verdict=verdict, record=lambda _: draft, quiet=True, counted="GET /a"
        )
        fence.commit(item)
    ran = afm("receipts", "show", decision, "--policy", policy)
    assert ran.code == 0
    assert "counted together, in aggregate record 1\n" in ran.out
    assert "1  identity.required  GET /a" in ran.out
    assert afm("receipts", "show", decision, "--policy", policy, "--json").json[0]["kind"] == "aggregate"
    other = afm("receipts", "show", fence.new_id(clock() + 90_000_000), "--policy", policy)
    assert (other.code, other.out) == (1, "")
    fresh = afm("receipts", "show", fence.new_id(system_clock()), "--policy", policy)
    assert (fresh.code, "look again" in fresh.err) == (1, True)


@pytest.mark.parametrize("which", ["0", "7", "999999999999999", "f" * 32, "²", "", "' OR 1=1 --"])
def test_a_receipt_that_is_not_there_is_said(afm, log, which):
    ran = afm("receipts", "show", "--policy", log, "--", which)
    assert (ran.code, ran.out, ran.err) == (1, "", f"there is no receipt {which}\n")


def test_a_terminal_is_not_given_orders_by_a_caller(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD", recipient="\x1b[2Jacme\nleaf forged")
    out = afm("receipts", "show", "1", "--policy", policy).out
    assert "\x1b" not in out
    assert [line.split()[0] for line in out.splitlines()].count("leaf") == 1
    assert afm("receipts", "show", "1", "--policy", policy, "--json").json[0]["recipient"] == "\x1b[2Jacme\nleaf forged"


def test_an_anchored_log_is_whole(afm, log):
    ran = afm("receipts", "verify", "--policy", log)
    assert ran.code == 0
    assert ran.out.startswith("whole: 6 receipts of log afm-")
    report = afm("receipts", "verify", "--policy", log, "--json").json
    assert {name: report[name] for name in ("status", "checked", "open", "seq", "integrity", "authenticity")} == {
        "status": "whole",
        "checked": 6,
        "open": 0,
        "seq": 0,
        "integrity": "ok",
        "authenticity": "ok",
    }


@pytest.mark.parametrize(
    ("statement", "seq", "code"),
    [
        (f"UPDATE receipt SET body = {FORGED} WHERE seq = ?", 1, "leaf.mismatch"),
        ("UPDATE receipt SET mac = zeroblob(32) WHERE seq = ?", 2, "mac.mismatch"),
        ("UPDATE receipt SET capability = 'shop.look.live' WHERE seq = ?", 3, "column.mismatch"),
        ("DELETE FROM receipt WHERE seq = ?", 4, "seq.gap"),
        ("DELETE FROM receipt WHERE seq = ?", 6, "head.mismatch"),
        ("UPDATE receipt SET disclosed = NULL WHERE seq = ?", 1, "disclosure.missing"),
        ("UPDATE receipt SET disclosed = x'c1' WHERE seq = ?", 2, "disclosure.mismatch"),
        ("UPDATE receipt SET disclosed = x'81a56163746f7292c400a1ff' WHERE seq = ?", 2, "disclosure.mismatch"),
        (f"INSERT INTO receipt SELECT seq + 1, {REST} FROM receipt WHERE seq = ? - 1", 7, "seq.mismatch"),
        ("UPDATE head SET ts = ts + 1 WHERE size = ?", 6, "head.mismatch"),
        ("UPDATE head SET leaf = zeroblob(32) WHERE size = ?", 6, "head.mismatch"),
    ],
    ids=[
        "body",
        "mac",
        "column",
        "middle",
        "tail",
        "value",
        "values",
        "no text",
        "repeated",
        "head's time",
        "head's leaf",
    ],
)
def test_a_changed_log_is_told_by_its_first_bad_receipt(afm, log, statement, seq, code):
    changed(log, statement, seq)
    ran = afm("receipts", "verify", "--policy", log)
    assert ran.code == 3
    assert ran.out.startswith(f"tampered at receipt {seq}: ")
    report = afm("receipts", "verify", "--policy", log, "--json")
    assert (report.code, report.json["status"], report.json["seq"], report.json["code"]) == (3, "tampered", seq, code)


def test_a_receipt_of_another_type_is_told(afm, log):
    with closing(sqlite3.connect(log.with_name("fence.db"))) as database, database:
        database.execute("CREATE TABLE loose AS SELECT * FROM receipt")
        database.execute("DROP TABLE receipt")
        database.execute("ALTER TABLE loose RENAME TO receipt")
        database.execute("UPDATE receipt SET body = 'text' WHERE seq = 3")
    report = afm("receipts", "verify", "--policy", log, "--json")
    assert (report.code, report.json["seq"], report.json["code"]) == (3, 3, "row.unreadable")


def test_a_cut_tail_is_told_by_the_anchor(afm, log):
    leaves = [bytes.fromhex(one["leaf"]) for one in listed(afm, log)[:5]]
    changed(log, "DELETE FROM receipt WHERE seq = 6")
    changed(log, "DELETE FROM checkpoint WHERE size > 5")
    frontier, _ = extend(Frontier(), leaves)
    changed(log, "UPDATE head SET size = 5, leaf = ?, frontier = ? WHERE id = 1", leaves[-1], frontier.pack())
    report = afm("receipts", "verify", "--policy", log, "--json")
    assert (report.code, report.json["code"], report.json["seq"]) == (3, "anchor.behind", 6)
    assert report.json["reason"] == "the anchor has seen 6 receipts, the log has 5"
    assert "afmiddleware receipts new-epoch" in afm("receipts", "verify", "--policy", log).err


def test_a_tail_without_an_anchor_is_not_called_whole(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD")
    ran = afm("receipts", "verify", "--policy", policy)
    assert (ran.code, ran.out.split(":")[0]) == (4, "unanchored")
    assert "--anchor none" in ran.err
    accepted = afm("receipts", "verify", "--policy", policy, "--anchor", "none")
    assert accepted.code == 0
    assert "completeness  not checked (no anchor)" in accepted.out
    changed(policy, "UPDATE receipt SET mac = zeroblob(32) WHERE seq = ?", 1)
    assert afm("receipts", "verify", "--policy", policy, "--anchor", "none").code == 3


def test_an_older_anchor_can_be_named(afm, log):
    anchor = log.parent / "far" / "anchor.json"
    kept = log.parent / "kept.json"
    kept.write_bytes(anchor.read_bytes())
    anchor.unlink()
    assert afm("receipts", "verify", "--policy", log).code == 4
    assert afm("receipts", "verify", "--policy", log, "--anchor", kept).code == 0
    kept.write_text('{"log": "afm-other", "size": 1, "leaf": "' + "0" * 64 + '"}')
    report = afm("receipts", "verify", "--policy", log, "--anchor", kept, "--json")
    assert (report.code, report.json["status"]) == (3, "tampered")


def test_receipts_are_authenticated_by_the_secret_of_the_environment(tmp_path):
    policy = written(tmp_path, KEYED)
    acted(policy, "1 USD")
    assert not (tmp_path / "fence.db.key").exists()

    def verify(secret):
        command = [sys.executable, "-m", "afmiddleware", "receipts", "verify", "--json", "--policy", str(policy)]
        environment = {**os.environ, "AFM_RECEIPT_KEY": secret}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return ran.returncode, json.loads(ran.stdout)

    code, report = verify(SECRET)
    assert (code, report["authenticity"]) == (0, "ok")
    code, report = verify("00" * 32)
    assert (code, report["code"]) == (3, "mac.mismatch")


@pytest.mark.parametrize("command", ["list", "show", "verify"])
def test_a_ledger_that_is_missing_is_not_made(afm, tmp_path, command):
    policy = written(tmp_path)
    ran = afm("receipts", command, *(["1"] if command == "show" else []), "--policy", policy)
    assert ran.code == (5 if command == "verify" else 2)
    assert f"there is no ledger at {tmp_path / 'fence.db'}" in ran.err
    assert [one.name for one in tmp_path.iterdir()] == ["fence.yaml"]


@pytest.mark.parametrize(
    "content",
    [b"", b"SQLite format 3\0 but then not" * 99, b"hello"],
    ids=["empty", "broken", "text"],
)
def test_what_is_no_ledger_is_unreadable(afm, tmp_path, content):
    policy = written(tmp_path)
    database = tmp_path / "fence.db"
    database.write_bytes(content)
    ran = afm("receipts", "verify", "--policy", policy)
    assert (ran.code, ran.out) == (5, "")
    assert ran.err.startswith("unreadable: ")
    report = afm("receipts", "verify", "--policy", policy, "--json")
    assert (report.code, report.json["status"]) == (5, "unreadable")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "far" / "anchor.json").write_text("{}"), "not an anchor"),
        (lambda folder: (folder / "fence.db.key").write_text("xyz"), "cannot be read: it holds 32 bytes"),
    ],
    ids=["anchor", "key"],
)
def test_what_verify_needs_and_cannot_read_is_named(afm, log, break_it, said):
    break_it(log.parent)
    ran = afm("receipts", "verify", "--policy", log)
    assert ran.code == 5
    assert said in ran.err


def test_an_anchor_that_is_named_and_missing_is_unreadable(afm, log):
    ran = afm("receipts", "verify", "--policy", log, "--anchor", log.parent / "none.json")
    assert (ran.code, ran.err) == (5, f"unreadable: there is no anchor at {log.parent / 'none.json'}\n")


def test_without_the_key_authenticity_is_said_to_be_unchecked(afm, log):
    (log.parent / "fence.db.key").unlink()
    ran = afm("receipts", "verify", "--policy", log, "--json")
    assert (ran.code, ran.json["status"]) == (5, "unauthenticated")
    assert (ran.json["authenticity"], ran.json["integrity"]) == ("not checked: the key is not at hand", "ok")
    assert "--public-key" in afm("receipts", "verify", "--policy", log).err


def test_a_public_key_that_is_known_stands_in_for_the_key(afm, log):
    public = afm("keys", "public", "--policy", log).out
    (log.parent / "shop.key").write_text(public)
    (log.parent / "fence.db.key").unlink()
    ran = afm("receipts", "verify", "--policy", log, "--json", "--public-key", log.parent / "shop.key")
    assert (ran.code, ran.json["authenticity"]) == (0, "ok, signed by a key you know")


def test_reading_changes_nothing(afm, log):
    def state():
        return {one.name: one.read_bytes() for one in log.parent.rglob("*.db") if one.is_file()}

    before = state()
    for command in (["list"], ["show", "1"], ["verify"]):
        afm("receipts", *command, "--policy", log)
    assert state() == before
    assert POLICY in log.read_text()
