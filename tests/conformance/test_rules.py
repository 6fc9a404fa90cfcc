"""What the rules decide, as data: the tables of the products before us, through the fence and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware.cli import main
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import CaseError, read_event
from afmiddleware.policy.suite import Case, run_cases
from afmiddleware.testing import FrozenClock

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
