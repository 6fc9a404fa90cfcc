"""What has to be done in an incident is done while the policy file is wrong, if only it tells of its ledger."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import written

WRONG = "version: 1\nservice: s\nledger: sqlite:///fence.db\nrules: {alow: []}\nroutes: [{route: POST pay}]\n"


def test_what_is_urgent_is_done_while_the_policy_is_wrong(afm, tmp_path):
    good, wrong = written(tmp_path), tmp_path / "wrong.yaml"
    key = afm("keys", "new", "acct_42", "--policy", good, "--json").json["id"]
    wrong.write_text(WRONG)
    for command, said in (
        (("freeze", "key:acct_42"), "key:acct_42 is frozen"),
        (("unfreeze", "key:acct_42"), "key:acct_42 may act again"),
        (("freeze", "all"), "all is frozen"),
        (("keys", "revoke", key), "is revoked"),
    ):
        ran = afm(*command, "--policy", wrong)
        assert (ran.code, said in ran.out) == (0, True), ran
        assert "wrong.yaml:4:9: unknown key 'alow' in rules" in ran.err
        assert f"warning: {wrong} is wrong, and this is done all the same, in the ledger that it names" in ran.err
    (listed,) = afm("keys", "list", "--policy", good, "--json").json
    assert listed["state"] == "revoked"


@pytest.mark.parametrize(
    "text",
    [
        WRONG.replace("sqlite:///", "sqlit:///"),
        WRONG.replace("ledger:", "ledgr:"),
        WRONG.replace("service: s\n", "service: s\nledger: sqlite:///other.db\n"),
        WRONG.replace("service: s\n", "service: s\nreceipts: {mac_keys: {file: x}}\n"),
        WRONG + "  - [\n",
    ],
    ids=["a ledger that is none", "no ledger", "two of them", "keys of the receipts", "no YAML"],
)
def test_nothing_is_done_where_the_ledger_cannot_be_told(afm, tmp_path, text):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    ran = afm("freeze", "all", "--policy", wrong)
    assert (ran.code, ran.out) == (2, "")
    assert "all the same" not in ran.err
    assert [one.name for one in tmp_path.iterdir()] == ["wrong.yaml"]
