"""What the rules decide, as data: the tables of the products before us, through the fence and the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware import ActionEvent, ActionRefused, Actor, Tier
from afmiddleware.cli import main
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import CaseError, read_event
from afmiddleware.policy.suite import Case, run_cases
from afmiddleware.testing import FrozenClock

WRONG = yaml.safe_load((Path(__file__).parent / "wrong_rules.yaml").read_text("utf-8"))
RULES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
TABLES = [
    (f"{path.stem}-{place}", table)
    for path in RULES
    for place, table in enumerate(yaml.safe_load(path.read_text("utf-8")))
]
ROWS = [
    pytest.param(table["policy"], case, id=f"{name}-{case['name']}")
    for name, table in TABLES
    for case in table["cases"]
]
REFUSED = [row for row in ROWS if isinstance(row.values[1], dict) and "refused" in row.values[1]]


@pytest.mark.parametrize(("policy", "case"), ROWS)
def test_a_row(policy: str, case: dict[str, Any]) -> None:
    fence = Fence(load(policy), clock=FrozenClock())
    try:
        if "refused" in case:
            with pytest.raises(CaseError, match=case["refused"]):
                read_event(case["event"], fence.config.exponents)
            return
        event, at = read_event(case["event"], fence.config.exponents, fence.config.environment)
        if at is not None:
            fence.clock = lambda: at
        verdict = fence.decide(event)
        [result] = run_cases([Case(name="row", event=event, expect=case["expect"])], lambda *_: verdict, 0)
        assert result.failures == ()
        assert fence.explain(event).verdict == verdict
    finally:
        fence.close()


@pytest.mark.parametrize("table", [pytest.param(table, id=name) for name, table in TABLES])
def test_a_table_through_the_command_line(table: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fence.yaml").write_text(table["policy"], "utf-8")
    cases = [case for case in table["cases"] if "refused" not in case]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({"cases": cases}, allow_unicode=True), "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["test", str(tmp_path / "cases.yaml"), "--policy", str(tmp_path / "fence.yaml")])
    assert capsys.readouterr() == (f"{len(cases)} of {len(cases)} cases are as expected.\n", "")
    assert ended.value.code == 0


NAMES = [
    row
    for row in REFUSED
    if isinstance(row.values[1], dict)
    and "is not a" in row.values[1]["refused"]
    and "amount" not in row.values[1]["refused"]
]
"""Rows whose capability or level of risk is none."""


def made(told: dict[str, Any]) -> ActionEvent:
    """The event as a careless caller in the process makes it, past `ActionEvent.create`."""
    return ActionEvent(
        capability=told["capability"], risk=told.get("risk"), actor=Actor(id="local:a", tier=Tier.VERIFIED)
    )


@pytest.mark.parametrize(("policy", "case"), NAMES)
def test_a_row_that_is_no_event_skips_no_rule(policy: str, case: dict[str, Any]) -> None:
    fence = Fence(load(policy + "\n"), clock=FrozenClock())
    try:
        event = made(case["event"])
        verdict = fence.decide(event)
        assert (verdict.authorized, verdict.code) == (False, "amount.unresolvable")
        assert fence.explain(event).verdict == verdict
        with pytest.raises(ActionRefused), fence.action(event):
            raise AssertionError
    finally:
        fence.close()


@pytest.mark.parametrize(("policy", "case"), REFUSED)
def test_a_row_that_is_no_event_through_the_command_line(
    policy: str, case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fence.yaml").write_text(policy, "utf-8")
    told = {"cases": [{"name": "row", "event": case["event"], "expect": "allow"}]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(told, allow_unicode=True), "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["test", str(tmp_path / "cases.yaml"), "--policy", str(tmp_path / "fence.yaml")])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert re.search(rf"cases\.yaml:2: row: .*{case['refused']}", said.err)


@pytest.mark.parametrize("wrong", [pytest.param(one, id=one["row"]) for one in WRONG])
def test_a_row_that_is_no_policy(wrong: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = wrong.get("head", "version: 1\nservice: a")
    text = f"{head}\n{wrong['policy']}\n"
    with pytest.raises(ConfigError) as refused:
        load(text)
    assert any(f"fence.yaml:{wrong['at']}: " in one and wrong["says"] in one for one in refused.value.problems)
    (tmp_path / "fence.yaml").write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["check", "--policy", str(tmp_path / "fence.yaml")])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert f"fence.yaml:{wrong['at']}: " in said.err
