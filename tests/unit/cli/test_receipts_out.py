"""Receipts leave the ledger with their proof, and private values leave the receipts on record."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.unit.cli.conftest import acted, written


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
    assert afm("receipts", "export", "--policy", log, "--output", away).code == 0
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
    assert afm("receipts", "export", "--policy", log, "--owner", "local:other", "--output", owned).code == 0
    assert afm("receipts", "check", owned, "--public-key", key).out.startswith("whole: 0 receipts")


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
    assert afm("keys", "rotate", "--receipts", "--policy", log).code == 0
    acted(log, "3 USD")
    assert len(afm("keys", "public", "--policy", log, "--json").json["keys"]) == 2
    away = log.with_name("all.jsonl")
    afm("receipts", "export", "--policy", log, "--output", away)
    after = log.with_name("after")
    after.write_text(afm("keys", "public", "--policy", log).out.splitlines()[-1])
    for one in (before, after):
        assert afm("receipts", "check", away, "--public-key", one).code == 0
        assert afm("receipts", "verify", "--policy", log, "--public-key", one).code == 4
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
