"""Policies of CapFence convert, with the fields their texts stand in, and decide as its documents say or stricter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware.cli.convert_capfence import from_capfence
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import read_event
from afmiddleware.policy.suite import word_of

TABLES = yaml.safe_load((Path(__file__).parent / "capfence.yaml").read_text("utf-8"))
ROWS = [
    pytest.param(table, case, id=f"{yaml.safe_load(table['policy'])['policy_name']}-{case['name']}")
    for table in TABLES
    for case in table["cases"]
]


def decided(text: str, event: dict[str, Any]) -> str:
    fence = Fence(load(text.replace("sqlite:///fence.db", "memory")))
    try:
        return word_of(fence.decide(read_event(event, {})[0]))
    finally:
        fence.close()


@pytest.mark.parametrize(("table", "case"), ROWS)
def test_a_case(afm, tmp_path, table, case):
    (tmp_path / "policy.yaml").write_text(table["policy"], "utf-8")
    options = [part for one in table["text"] for part in ("--text", one)]
    ran = afm("import", "capfence", tmp_path / "policy.yaml", *options)
    assert (ran.code, ran.err) == (0, "")
    assert decided(ran.out, case["event"]) == case["expect"]


def test_where_it_is_stricter_a_comment_says_so():
    text = from_capfence(yaml.safe_load(TABLES[3]["policy"]))
    assert "# stricter: without match_keywords, which names no field of the payload; say it with --text" in text
    assert "# stricter: left out, for pa*.send has a star within a part, and covered nothing" in text
    assert "# stricter: an approval by risk opened what no rule allows; here it does not" in text
    assert "# there an approval opened this by itself; it still needs that approval" in text


@pytest.mark.parametrize("regex", ["(?!x)y", "a\\1", "x" * 1001])
def test_an_expression_that_we_have_not_is_not_said(regex):
    rules = {"deny": [{"capability": "a.b", "match_regex": regex}], "allow": ["a.b"]}
    text = from_capfence(rules, texts=["command"])
    assert "stricter: without match_regex" in text
    assert decided(text, {"capability": "a.b", "payload": {"command": "ls"}}) == "deny"


@pytest.mark.parametrize(
    "condition",
    [
        {"contains": ["a", "b"]},
        {"contains": ""},
        {"match_keywords": []},
        {"amount_gt": True},
        {"tenant": "t*"},
        {"tool_name": 5},
        {"contains": "a", "path_prefix": "b"},
    ],
)
def test_what_cannot_be_said_denies_always_and_allows_never(condition):
    denied = from_capfence({"deny": [{"capability": "a.b", **condition}], "allow": ["a.b"]}, texts=["command?"])
    assert decided(denied, {"capability": "a.b", "payload": {"command": "xax"}}) == "deny"
    allowed = from_capfence({"allow": [{"capability": "a.b", **condition}]}, texts=["command?"])
    assert decided(allowed, {"capability": "a.b", "payload": {"command": "xax"}}) == "deny"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"deny": ["a"], "denyy": ["b"]}, "unknown field `denyy`"),
        ({"deny": "a.b"}, "at deny: expected `array | null`, got `str`"),
        ({"deny": [5]}, r"at deny\[0\]"),
        ({"deny": [{"capability": "a", "amonut_gt": 5}]}, "a rule has no 'amonut_gt'"),
        ({"deny": [{"capability": ["a"]}]}, "a rule has no 'capability'"),
        ({"deny": [{"contains": "a"}]}, "a rule has no 'capability'"),
        ({"rules": [{"action": "allowed"}]}, "action is 'allowed'"),
        ({"rules": [{"capability": "a"}]}, "action is 'None'"),
        ({"rules": [{"action": "deny", "contains": "x"}]}, "a rule has no 'contains'"),
        ({"risk_levels": {"high": {"action": "blok"}}}, "invalid enum value 'blok'"),
        ({"risk_levels": {"hihg": {"action": "deny"}}}, "invalid enum value 'hihg'"),
    ],
)
def test_what_it_refuses_is_refused(document, said):
    with pytest.raises(ConfigError, match=said):
        from_capfence(document)


@pytest.mark.parametrize("text", ["", "?", "=a", "a=", "a=?"])
def test_a_field_that_is_none(text):
    with pytest.raises(ConfigError, match="names no field"):
        from_capfence({"deny": ["a"]}, texts=[text])


def test_a_rule_without_a_capability_is_for_all():
    text = from_capfence(
        {"rules": [{"id": "r", "action": "warn"}, {"action": "block", "match_keywords": ["x"]}]}, texts=["t"]
    )
    assert decided(text, {"capability": "a", "payload": {"t": "y"}}) == "allow"
    assert decided(text, {"capability": "a", "payload": {"t": "axb"}}) == "deny"
