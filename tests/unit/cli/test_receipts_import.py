"""`receipts import`: an export becomes an archive that the other commands read."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import acted, written


@pytest.fixture
def bundle(afm, tmp_path):
    policy = written(tmp_path)
    acted(policy, "5 USD", "6 USD", "20 USD")
    (tmp_path / "key").write_text(afm("keys", "public", "--policy", policy).out)
    assert afm("receipts", "export", "--policy", policy, "--output", tmp_path / "all.jsonl").code == 0
    return tmp_path / "all.jsonl"


def test_an_export_is_read_listed_and_verified_elsewhere(afm, bundle, tmp_path, monkeypatch):
    policy, into = tmp_path / "fence.yaml", f"sqlite:///{tmp_path}/far/archive.db"
    ran = afm("receipts", "import", bundle, "--into", into, "--public-key", tmp_path / "key", "--json")
    assert (ran.code, ran.json["imported"]) == (0, 5)
    listed = afm("receipts", "list", "--policy", policy, "--json").out
    monkeypatch.setenv("AFM_LEDGER", into)
    assert afm("receipts", "list", "--policy", policy, "--json").out == listed
    assert afm("receipts", "verify", "--policy", policy, "--public-key", tmp_path / "key", "--json").json["signed"] == 5
    ran = afm("freeze", "key:acct_42", "--policy", policy)
    assert (ran.code != 0, "is an archive" in ran.err) == (True, True)


def test_a_bad_line_is_named_and_nothing_is_imported(afm, bundle, tmp_path):
    lines = bundle.read_text().splitlines(keepends=True)
    bundle.write_text("".join([*lines[:2], "nonsense\n", *lines[2:]]))
    into = f"sqlite:///{tmp_path}/far/archive.db"
    ran = afm("receipts", "import", bundle, "--into", into, "--public-key", tmp_path / "key")
    assert (ran.code, ran.err) == (3, "refused: line 3: a line is not JSON; nothing was imported\n")
    assert not (tmp_path / "far").exists()
    assert afm("receipts", "import", bundle, "--into", "file:///x", "--public-key", tmp_path / "key").code == 2
