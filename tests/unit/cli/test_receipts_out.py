"""Receipts leave the ledger with their proof, and private values leave the receipts on record."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

from afmiddleware.config.load import load
from afmiddleware.fence import system_clock
from afmiddleware.ledger.open import open_for_tools
from afmiddleware.model import Record
from afmiddleware.receipts.record import refund
from tests.unit.cli.conftest import POLICY, acted, written


@pytest.fixture
def log(tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD", "2 USD", "99 USD")
    return policy


@pytest.fixture
def key(afm, log):
    place = log.with_name("public")
    place.write_text(afm("keys", "public", "--policy", log).out)
    return place


def test_the_whole_log_is_verified_elsewhere(afm, log, key, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "all.jsonl"
    written = afm("receipts", "export", "--policy", log, "--output", away)
    assert (written.code, written.out, written.err) == (0, "", f"5 receipts written to {away}\n")
    ran = afm("receipts", "check", away, "--public-key", key)
    assert (ran.code, ran.out.split(" of")[0]) == (0, "whole: 5 receipts")
    away.write_text(away.read_text().replace('\\"amount\\":\\"100\\"', '\\"amount\\":\\"101\\"'))
    assert afm("receipts", "check", away, "--public-key", key).code == 3
    away.write_text("{")
    assert afm("receipts", "check", away, "--public-key", key).code == 5


def test_a_place_that_cannot_be_written_is_named(afm, log, tmp_path):
    place = tmp_path / "nowhere" / "all.jsonl"
    ran = afm("receipts", "export", "--policy", log, "--output", place)
    assert (ran.code, ran.err) == (2, f"{place}: No such file or directory\n")


def test_one_caller_gets_its_own_receipts_and_no_others(afm, log, key):
    owned = log.with_name("owned.jsonl")
    assert afm("receipts", "export", "--policy", log, "--owner", "local:agent-7", "--output", owned).code == 0
    assert afm("receipts", "check", owned, "--public-key", key).out.startswith("whole: 5 receipts")


def test_a_decision_is_proven(afm, log, key):
    decision = json.loads(afm("receipts", "list", "--policy", log, "--json").out.splitlines()[0])["id"]
    place = log.with_name("proof.json")
    for which in (decision, f"urn:afm:decision:{decision}", "1"):
        place.write_text(afm("receipts", "prove", which, "--policy", log).out)
        assert afm("receipts", "check", place, "--public-key", key).code == 0
    assert afm("receipts", "prove", "99", "--policy", log).code == 1
    assert afm("receipts", "verify", "--policy", log, "--have", place, "--public-key", key).code == 0


def test_a_redacted_value_is_gone_from_every_file_and_the_log_is_whole(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD", recipient="very-private-recipient")
    assert any(b"very-private-recipient" in one.read_bytes() for one in tmp_path.glob("fence.db*"))
    ran = afm(
        "receipts",
        "redact",
        "1",
        "--field",
        "recipient",
        "--reason",
        "gdpr.erasure",
        "--by",
        "dpo",
        "--policy",
        policy,
        "--json",
    )
    assert (ran.code, ran.json) == (0, {"redacted": [1], "fields": ["recipient"]})
    with closing(sqlite3.connect(policy.with_name("fence.db"))) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not any(b"very-private-recipient" in one.read_bytes() for one in tmp_path.glob("fence.db*"))
    assert "very-private" not in afm("receipts", "show", "1", "--policy", policy).out
    report = afm("receipts", "verify", "--policy", policy, "--json").json
    assert (report["status"], report["checked"]) == ("unanchored", 3)
    again = afm("receipts", "redact", "1", "--field", "recipient", "--reason", "x", "--by", "dpo", "--policy", policy)
    assert again.code == 1


def test_stats(afm, log):
    told = afm("receipts", "stats", "--policy", log, "--json").json
    assert told["kind"] == {"intent": 2, "outcome": 2, "refusal": 1}
    assert "log afm-" in afm("receipts", "stats", "--policy", log).out


def test_a_signing_key_is_made_once(afm, tmp_path):
    policy = written(tmp_path)
    assert afm("keys", "new", "--receipts", "--policy", policy).code == 0
    place = tmp_path / "fence.db.signing.pem"
    assert place.stat().st_mode & 0o777 == 0o600
    again = afm("keys", "new", "--receipts", "--policy", policy)
    assert (again.code, "already" in again.err) == (2, True)
    acted(policy, "1 USD")
    place.unlink()
    over = afm("keys", "new", "--receipts", "--policy", policy)
    assert (over.code, "restore that one" in over.err, place.exists()) == (2, True, False)


def test_a_key_is_rotated_and_both_verify_the_log(afm, log, key):
    before = log.with_name("before")
    before.write_text(key.read_text())
    early = log.with_name("early")
    early.write_text(afm("receipts", "prove", "1", "--policy", log).out)
    rotated = afm("keys", "rotate", "--receipts", "--policy", log)
    assert (rotated.code, "all are told by: afmiddleware keys public" in rotated.err) == (0, True)
    acted(log, "3 USD")
    assert len(afm("keys", "public", "--policy", log, "--json").json["keys"]) == 2
    away = log.with_name("all.jsonl")
    afm("receipts", "export", "--policy", log, "--output", away)
    after = log.with_name("after")
    after.write_text(afm("keys", "public", "--policy", log).out.splitlines()[-1])
    both, served = log.with_name("both"), log.with_name("served")
    both.write_text(afm("keys", "public", "--policy", log).out)
    served.write_text(afm("keys", "public", "--policy", log, "--json").out)
    known = [afm("receipts", "check", early, "--public-key", one).code for one in (before, after, both, served)]
    assert known == [0, 5, 0, 0]  # what was proven before names the first key alone
    for one in (before, after, both, served):
        assert afm("receipts", "check", away, "--public-key", one).code == 0
        assert afm("receipts", "verify", "--policy", log, "--public-key", one).code == 4
        into = f"sqlite:///{log.parent}/{one.name}.db"
        assert afm("receipts", "import", away, "--into", into, "--public-key", one).code == 0
    assert afm("receipts", "list", "--kind", "rotation", "--policy", log, "--json").out.count("rotation") == 1


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--actor", "local:agent-7"], 5),
        (["--actor", "local:other"], 0),
        (["--amount", "2 USD"], 3),
        (["--amount", "2 EUR"], 0),
        (["--since", "2001-01-01"], 5),
        (["--until", "2001-01-01"], 0),
        (["--amount", "2 USD", "--verdict", "refuse"], 1),
    ],
)
def test_the_list_is_narrowed(afm, log, options, count):
    assert len(afm("receipts", "list", "--policy", log, "--json", *options).out.splitlines()) == count


def test_a_bare_name_is_no_caller_with_nothing(afm, log):
    refused = afm("receipts", "list", "--policy", log, "--actor", "agent-7")
    assert (refused.code, "agent-7 is no actor: write key:agent-7" in refused.err) == (2, True)


def test_what_is_not_there_is_said_and_nothing_is_written(afm, log, tmp_path):
    place = tmp_path / "mine.jsonl"
    for owner, code, said in (
        ("nosuch", 2, "nosuch is no actor: write key:nosuch"),
        ("key:nosuch", 1, "the log has no receipt of key:nosuch; nothing was written"),
    ):
        ran = afm("receipts", "export", "--policy", log, "--owner", owner, "--output", place)
        assert (ran.code, said in ran.err, place.exists()) == (code, True, False), ran
    for options in (["--kind", "bogus"], ["--verdict", "maybe"]):
        assert afm("receipts", "list", "--policy", log, *options).code == 2
    ran = afm("receipts", "list", "--policy", log, "--actor", "key:nosuch")
    assert (ran.code, ran.err) == (0, "none of the log's 5 receipts is like that\n")
    order = ["--reason", "gdpr.erasure", "--by", "dpo", "--policy", log]
    ran = afm("receipts", "redact", "99", "--field", "actor", *order)
    assert (ran.code, ran.out, ran.err) == (1, "", "nothing was deleted: there is no receipt 99\n")
    ran = afm("receipts", "redact", "1", "--field", "nosuch", *order)
    assert (ran.code, ran.out, ran.err) == (1, "", "nothing was deleted: no value nosuch is kept of 1\n")


def test_every_kind_of_record_says_something_in_the_list(afm, log):
    assert afm("freeze", "key:acct_42", "--policy", log, "--reason", "odd").code == 0
    log.write_text(log.read_text().replace("25 USD", "26 USD"))
    acted(log, "1 USD")
    order = ["--field", "recipient", "--reason", "gdpr.erasure", "--by", "dpo", "--policy", log]
    assert afm("receipts", "redact", "1", *order).code == 0
    assert afm("keys", "rotate", "--receipts", "--policy", log).code == 0
    lines = afm("receipts", "list", "--policy", log, "--last", "8").out.splitlines()
    told = {line.split()[3]: line for line in lines[1:]}
    assert told["operation"].endswith("freeze")
    assert re.search(r"start: [0-9a-f]{16}, enforce$", told["policy"])
    assert told["redaction"].endswith("recipient of 1 receipt: gdpr.erasure")
    assert re.search(r"[0-9a-f]{16} signs$", told["rotation"])


def test_a_refund_is_listed_with_what_was_given_back(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD")
    with closing(open_for_tools(load(POLICY), tmp_path, clock=system_clock)) as ledger:
        given = refund("d7", "key:a", "payments.pay", bytes(32), "USD", 2, amount=1250, left=0, by="d8")
        ledger.commit(Record(given))
    row = afm("receipts", "list", "--policy", policy, "--kind", "refund").out.splitlines()[-1]
    assert ("12.50 USD" in row, "0.00 USD" in row) == (True, False)


def test_one_receipt_is_one(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "21 USD")
    assert afm("receipts", "verify", "--policy", policy).out.startswith("unanchored: 1 receipt of log")


def test_an_operation_shows_only_what_it_has(afm, log):
    """A freeze has no value and overrides nothing."""
    assert afm("freeze", "local:agent-7", "--policy", log).code == 0
    shown = afm("receipts", "show", "6", "--policy", log).out
    assert ("operation    freeze" in shown, "override" in shown, "  value" in shown) == (True, False, False)
    assert afm("limits", "set", "local:agent-7", "daily", "0 USD", "--override", "--policy", log).code == 0
    shown = afm("receipts", "show", "7", "--policy", log).out
    assert ("  value        0" in shown, "  override     True" in shown) == (True, True)
