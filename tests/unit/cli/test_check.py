"""`check` tells every error of a policy before anything runs; `schema` is for editors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest
import yaml

from afmiddleware.cli import cli
from afmiddleware.cli.common import Group
from tests.unit.cli.conftest import POLICY, written

COMMANDS = (
    ["check"],
    ["keys", "new", "acct"],
    ["keys", "list"],
    ["keys", "revoke", "abc"],
    ["receipts", "list"],
    ["receipts", "show", "1"],
    ["receipts", "verify"],
)
BROKEN = POLICY + "mode: block\nlimmits: []\n"


def test_a_good_policy_is_counted(afm, policy):
    ran = afm("check", "--policy", policy)
    assert (ran.code, ran.out, ran.err) == (0, f"{policy}: 1 route, 2 rules, 1 limit; no errors.\n", "")
    assert afm("check", "--policy", policy, "--json").json == {
        "policy": str(policy),
        "ok": True,
        "problems": [],
        "lint": [],
    }


def test_every_error_is_told_with_its_line(afm, tmp_path):
    policy = written(tmp_path, text=BROKEN)
    line = len(POLICY.splitlines()) + 1
    problems = [
        f"{policy}:{line}:7: mode: 'block' is not known here; use enforce, observe, or a part of the callers such as observe 25%",
        f"{policy}:{line + 1}:1: unknown key 'limmits'; did you mean 'limits'?",
    ]
    ran = afm("check", "--policy", policy)
    assert (ran.code, ran.out, ran.err.splitlines()) == (1, "", problems)
    as_json = afm("check", "--policy", policy, "--json")
    assert (as_json.code, as_json.err) == (1, "")
    assert as_json.json == {"policy": str(policy), "ok": False, "problems": problems, "lint": []}


def test_a_file_of_keys_that_is_missing_is_an_error_of_the_policy(afm, tmp_path):
    issuer = "{issuer: https://as.example.com, audience: api, algorithms: [ES256], jwks_file: keys.json}"
    text = POLICY.replace("identity:\n", f"identity:\n  jwt: {{issuers: [{issuer}]}}\n")
    ran = afm("check", "--policy", written(tmp_path, text=text))
    assert ran.code == 1
    assert str(tmp_path / "keys.json") in ran.err
    assert len(ran.err.splitlines()) == 1


def test_checking_leaves_nothing_behind(afm, policy):
    afm("check", "--policy", policy)
    assert [one.name for one in policy.parent.iterdir()] == ["fence.yaml"]


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_policy_is_said_and_nothing_is_made(afm, tmp_path, command, options):
    policy = tmp_path / "nowhere.yaml"
    ran = afm(*command, *options, "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"{policy}: there is no policy file; write a first one with: afmiddleware init --app module:app\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [one for one in COMMANDS[1:] if "revoke" not in one], ids=" ".join)
def test_a_broken_policy_is_told_with_its_lines_and_nothing_is_made(afm, tmp_path, command):
    ran = afm(*command, "--policy", written(tmp_path, text=BROKEN))
    assert (ran.code, ran.out) == (2, "")
    assert [line.split(": ")[1] for line in ran.err.splitlines()] == [
        "mode",
        "unknown key 'limmits'; did you mean 'limits'?",
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["fence.yaml"]


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_a_ledger_in_memory_cannot_be_seen_from_outside(afm, tmp_path, command):
    policy = written(tmp_path, text=POLICY.replace("sqlite:///fence.db", "memory"))
    ran = afm(*command, "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert "a ledger in memory ends with its process and cannot be seen from here" in ran.err


@pytest.mark.parametrize(
    "group", [[], ["receipts"], ["limits"], ["breaker"], ["import"], ["keys"], ["token"]], ids=" ".join
)
def test_a_list_of_commands_says_the_whole_first_sentence_of_each(afm, group):
    listed = " ".join(afm(*group, "--help").out.partition("Commands:")[2].split())
    assert listed.endswith(".")
    found = cli.commands[group[0]] if group else cli
    assert isinstance(found, Group)
    for name in found.commands:
        sentence = " ".join(afm(*group, name, "--help").out.split("\n\n")[1].split()).partition(". ")[0]
        assert f"{name} {sentence.rstrip('.')}." in listed


def test_every_command_prints_json_when_asked(afm):
    for command in (*COMMANDS, ["schema"], ["demo"]):
        assert "--json" in afm(*(word for word in command if word not in {"acct", "abc", "1"}), "--help").out, command


def test_the_schema_accepts_a_policy_and_marks_an_unknown_key(afm):
    ran = afm("schema")
    assert (ran.code, ran.out) == (0, afm("schema", "--json").out)
    validator = import_module("jsonschema").Draft202012Validator(ran.json)
    document = yaml.safe_load(POLICY)
    assert validator.is_valid(document)
    assert not validator.is_valid({**document, "limmits": []})


@pytest.mark.parametrize("arguments", [["frobnicate"], ["check", "--frob"], ["keys", "new"]], ids=" ".join)
def test_wrong_usage_is_exit_2(afm, arguments):
    ran = afm(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: " in ran.err


def test_the_environment_names_the_policy_and_its_ledger(policy):
    def run(*arguments, **more):
        environment = {**os.environ, "AFM_POLICY": str(policy), **more}
        command = [sys.executable, "-m", "afmiddleware", *arguments]
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)

    assert json.loads(run("check", "--json").stdout)["policy"] == str(policy)
    assert run("keys", "new", "acct_42", AFM_LEDGER="sqlite:///other.db").returncode == 0
    assert (policy.parent / "other.db").is_file()
    refused = run("keys", "list", AFM_LEDGER="postgresql://me:hunter2@host/db?pool=none")
    assert refused.returncode == 2
    assert refused.stderr == ("AFM_LEDGER: 'none' is not a number of connections; write one from 1 to 999\n")
    said = "use enforce, observe, or a part of the callers such as observe 25%"
    assert run("check", AFM_MODE="block").stderr == f"AFM_MODE: 'block' is not known here; {said}\n"
    assert run("check", AFM_MODE="observe 25%").returncode == 0


def test_what_is_hardly_meant_is_told_and_strict_refuses_it(afm, tmp_path):
    text = POLICY.replace("    - shop.look.live\n", "    - shop.look.live\n    - shop.look.*\n    - shop.look.eu\n")
    policy = written(tmp_path, text=text)
    line = text.splitlines().index("    - shop.look.eu") + 1
    said = (
        f"{policy}:{line}: rule.shadowed: the allow rule allow[4] decides nothing, since allow[3] allows all of it "
        "without a demand; remove one\n"
    )
    ran = afm("check", "--policy", policy)
    assert (ran.code, ran.err) == (0, said)
    ran = afm("check", "--policy", policy, "--strict")
    assert (ran.code, ran.err) == (1, said)
    assert afm("check", "--policy", policy, "--json").json["lint"][0]["id"] == "rule.shadowed"
    assert afm("check", "--policy", written(tmp_path), "--strict").code == 0


def test_a_tool_that_costs_money_and_is_open_to_all_is_told(afm, tmp_path):
    policy = written(
        tmp_path,
        text="version: 1\nservice: s\nledger: memory\n"
        'routes: [{route: POST /mcp, protocol: mcp, capability: "mcp.{tool}", '
        "tools: {book: {amount: {from: arguments.price}}}}]\n"
        "rules: {allow: [mcp.*]}\n",
    )
    assert "lets anybody use POST /mcp book, which moves money" in afm("check", "--policy", policy).err
