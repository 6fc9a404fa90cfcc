"""`receipts new-epoch`: after a loss a new log goes on, and says what is missing of the old one."""

from __future__ import annotations

import json
import shutil
from contextlib import closing

import pytest

from afmiddleware import ActionEvent, Fence, Money
from afmiddleware.drivers import run
from afmiddleware.errors import ReceiptError
from afmiddleware.flow import admit_event
from tests.unit.cli.conftest import acted, written

ANCHORED = "receipts:\n  anchor: {file: far/anchor.json, every: 1s}\n"


@pytest.fixture
def cut(tmp_path):
    """A log of which an old copy was restored: its anchor has seen more."""
    policy = written(tmp_path, ANCHORED)
    assert acted(policy, "5 USD") == ["done"]
    shutil.copy(tmp_path / "fence.db", tmp_path / "old.db")
    assert acted(policy, "6 USD", "7 USD") == ["done", "done"]
    for one in tmp_path.glob("fence.db-*"):
        one.unlink()
    shutil.copy(tmp_path / "old.db", tmp_path / "fence.db")
    with pytest.raises(ReceiptError, match=r"has seen 6 receipts, the ledger has 2: .* new-epoch"):
        acted(policy, "1 USD")
    return policy


def records(afm, policy):
    return [json.loads(line) for line in afm("receipts", "list", "--policy", policy, "--json").out.splitlines()]


def test_the_gap_stands_in_the_first_record_and_the_log_goes_on(afm, cut):
    old = json.loads((cut.parent / "far" / "anchor.json").read_text())
    ran = afm("receipts", "new-epoch", "--reason", "disk lost", "--policy", cut, "--json")
    assert (ran.code, ran.json["old_log"], ran.json["old_size"]) == (0, old["log"], 6)
    assert acted(cut, "2 USD") == ["done"]
    told = records(afm, cut)
    first = told[0]
    assert first["kind"] == "epoch"
    assert (first["old_log"], first["old_size"], first["old_leaf"]) == (old["log"], 6, old["leaf"])
    assert first["old_checkpoint"] == old["checkpoint"]
    assert (first["found_log"], first["found_size"], first["reason"]) == (old["log"], 2, "disk lost")
    assert [(one["seq"], one["kind"]) for one in told] == [(1, "epoch"), (2, "intent"), (3, "outcome")]
    assert {one["log"] for one in told} == {ran.json["log"]} != {old["log"]}
    # Anchored again, and whole; what was there is kept, and so is the mark that shows the gap.
    assert afm("receipts", "verify", "--policy", cut).code == 0
    assert json.loads((cut.parent / "far" / f"anchor.json.{old['log']}").read_text()) == old
    copy = written(
        cut.parent,
        text=cut.read_text().replace("fence.db", f"fence.db.{old['log']}").replace("far/anchor.json", "none.json"),
    )
    (cut.parent / "key").write_text(afm("keys", "public", "--policy", copy).out)
    ran = afm("receipts", "verify", "--policy", copy, "--public-key", cut.parent / "key", "--json")
    assert (ran.code, ran.json["log"], ran.json["checked"]) == (4, old["log"], 2)


def test_counters_go_on_and_api_keys_stay(afm, cut):
    # The restored copy has counted 5 of 25 USD.
    assert afm("receipts", "new-epoch", "--reason", "x", "--policy", cut).code == 0
    assert acted(cut, "19 USD", "2 USD") == ["done", "spend.exceeded"]


def test_a_ledger_that_is_gone_begins_anew_with_the_old_mark(afm, tmp_path):
    policy = written(tmp_path, ANCHORED)
    acted(policy, "5 USD")
    old = json.loads((tmp_path / "far" / "anchor.json").read_text())
    for one in tmp_path.glob("fence.db*"):
        one.unlink()
    for empty in (False, True):
        if empty:
            (tmp_path / "fence.db").touch()
        lost = afm("receipts", "verify", "--policy", policy)
        seen = f"the anchor {tmp_path / 'far' / 'anchor.json'} has seen 2 receipts of the log {old['log']}"
        assert (lost.code, seen in lost.err, "receipts new-epoch" in lost.err) == (5, True, True), lost.err
    (tmp_path / "fence.db").unlink()
    with pytest.raises(
        ReceiptError, match=r"restore its newest copy; go on after a loss with: afmiddleware receipts new-epoch"
    ):
        acted(policy, "1 USD")
    assert afm("receipts", "new-epoch", "--reason", "gone", "--policy", policy).code == 0
    assert acted(policy, "1 USD") == ["done"]
    (first, *_) = records(afm, policy)
    assert (first["old_log"], first["old_size"], first["found_size"]) == (old["log"], 2, 0)
    assert afm("receipts", "verify", "--policy", policy).code == 0


def test_an_open_reservation_is_carried_over_and_can_be_settled(afm, tmp_path):
    policy = written(tmp_path, ANCHORED)
    fence = Fence.from_file(policy)
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse("5 USD")
    )
    with closing(fence):
        run(admit_event(fence.plan, event, fence.clock(), "d" * 32), fence.io)
    before = records(afm, policy)
    assert [one["kind"] for one in before] == ["intent"]
    assert afm("receipts", "new-epoch", "--reason", "x", "--policy", policy).code == 0
    assert afm("reconcile", "d" * 32, "--capture", "all", "--policy", policy).code == 0
    told = records(afm, policy)
    assert [one["kind"] for one in told] == ["epoch", "carried", "outcome"]
    assert (told[1]["old_ref"], told[1]["amount"], told[2]["ref"]) == (before[0]["leaf"], "500", told[1]["leaf"])
    assert afm("receipts", "verify", "--policy", policy).code == 0
    key, bundle = tmp_path / "key", tmp_path / "all.jsonl"
    key.write_text(afm("keys", "public", "--policy", policy).out)
    assert afm("receipts", "export", "--policy", policy, "--output", bundle).code == 0
    assert afm("receipts", "check", bundle, "--public-key", key).code == 0


def test_without_a_mark_it_has_to_be_said(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "5 USD")
    ran = afm("receipts", "new-epoch", "--reason", "x", "--policy", policy)
    assert (ran.code != 0, "--unanchored" in ran.err) == (True, True)
    assert [one["kind"] for one in records(afm, policy)] == ["intent", "outcome"]
    assert afm("receipts", "new-epoch", "--reason", "x", "--unanchored", "--policy", policy).code == 0
    assert [one["kind"] for one in records(afm, policy)] == ["epoch"]


def test_a_process_that_still_runs_does_not_go_on_with_the_old_log(afm, tmp_path):
    policy = written(tmp_path)
    with closing(Fence.from_file(policy)) as fence:
        event = ActionEvent.create(actor="agent-7", resource="shop", action="look", environment="live")
        with fence.action(event):
            pass
        afm("receipts", "new-epoch", "--reason", "x", "--unanchored", "--policy", policy)
        from afmiddleware import ActionRefused

        with pytest.raises(ActionRefused, match=r"ledger\.unavailable"), fence.action(event):
            pass


def test_a_copy_that_was_broken_off_is_not_in_the_way_and_a_whole_one_is_not_touched(afm, cut):
    log = json.loads((cut.parent / "far" / "anchor.json").read_text())["log"]
    kept, part = (cut.parent / f"fence.db.{log}{end}" for end in ("", ".2.part"))
    kept.write_text("a copy of before")
    part.write_text("half")
    ran = afm("receipts", "new-epoch", "--reason", "again", "--policy", cut, "--json")
    assert (ran.code, ran.json["copy"]) == (0, f"{kept}.2")
    assert kept.read_text() == "a copy of before"
    assert not part.exists()
    assert (cut.parent / f"fence.db.{log}.2").stat().st_mode & 0o777 == 0o600
