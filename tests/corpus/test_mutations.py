"""Each safe rule is what holds its cases: switched off in a copy of the product, they turn red."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.corpus import cases
from tests.corpus.mutants import Mutation, mutations
from tests.corpus.run import Trial
from tests.corpus.stacks import Stack

RULES = [f"S{number}" for number in range(1, 12)]


def test_each_safe_rule_is_switched_off_once_at_least() -> None:
    assert {one.rule for one in mutations()} == set(RULES)


@pytest.mark.parametrize("mutation", mutations(), ids=lambda one: f"{one.rule}, {one.says}")
def test_a_mutation_is_not_stale(mutation: Mutation) -> None:
    assert mutation.stale() == [], "the code has moved: say in mutations.yaml where the rule stands now"
    assert mutation.red or mutation.ran
    for name in (*mutation.red, *mutation.ran):
        assert mutation.stack in cases()[name].where


@pytest.mark.slow
@pytest.mark.parametrize("mutation", mutations(), ids=lambda one: f"{one.rule}, {one.says}")
def test_without_its_rule_a_case_turns_red(mutation: Mutation, tmp_path: Path) -> None:
    code, site = tmp_path / "code", tmp_path / "site"
    site.mkdir()
    trial = Trial(Stack(mutation.stack, site, mutation.make(code)))
    try:
        seen = {name: trial.faults(cases()[name]) for name in (*mutation.red, *mutation.ran)}
    finally:
        late = trial.end()
    quiet = [name for name in seen if not seen[name] and not any(fault.startswith(f"{name}: ") for fault in late)]
    assert quiet == [], "these did not notice"
    told = trial.stack.site.marks.read_text(encoding="utf-8")
    ran = [name for name in mutation.ran if f'"case": "{name}"' not in told and '"case": "websocket"' not in told]
    assert ran == [], "in these no handler ran"
