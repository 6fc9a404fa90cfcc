"""`receipts anchor`: the mark of the log is where the policy says, or the operator hears why not."""

from __future__ import annotations

import json

from tests.unit.cli.conftest import acted, written


def test_the_mark_is_taken_to_every_place_now(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "1 USD", "2 USD")
    written(tmp_path, "receipts:\n  anchor: {file: far/anchor.json, stdout: true}\n")
    ran = afm("receipts", "anchor", "--check", "--policy", policy, "--json")
    place = str(tmp_path / "far" / "anchor.json")
    assert (ran.code, [(one["place"], one["state"]) for one in ran.json]) == (
        0,
        [(place, "has no mark yet"), ("stdout", "cannot be read back")],
    )
    assert afm("receipts", "anchor", "--policy", policy).code == 0
    mark = json.loads((tmp_path / "far" / "anchor.json").read_text())
    assert (mark["size"], mark["checkpoint"].splitlines()[1]) == (4, "4")
    ran = afm("receipts", "anchor", "--check", "--policy", policy)
    assert (ran.code, ran.out.splitlines()[0]) == (0, f"{place}: 4 of 4 receipts")
    assert afm("receipts", "verify", "--policy", policy).code == 0


def test_a_log_that_lost_its_tail_is_said_and_the_mark_is_kept(afm, tmp_path):
    policy = written(tmp_path, "receipts:\n  anchor: {file: far/anchor.json, every: 1s}\n")
    acted(policy, "1 USD")
    place = tmp_path / "far" / "anchor.json"
    place.write_text(place.read_text().replace('"size":2', '"size":3'))
    before = place.read_text()
    for more in ([], ["--check"]):
        ran = afm("receipts", "anchor", "--policy", policy, *more)
        assert (ran.code, "has seen 3 receipts, the ledger has 2" in ran.out) == (1, True)
    assert place.read_text() == before


def test_a_place_that_fails_and_a_policy_without_one_are_said(afm, tmp_path):
    policy = written(tmp_path, 'receipts:\n  anchor: {command: ["/nonexistent/program"]}\n')
    acted(policy, "1 USD")
    ran = afm("receipts", "anchor", "--policy", policy)
    assert (ran.code, "cannot be started" in ran.out) == (1, True)
    written(tmp_path)
    assert afm("receipts", "anchor", "--policy", policy).code == 2
