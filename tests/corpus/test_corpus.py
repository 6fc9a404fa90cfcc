"""Every case on every stack it is for: what becomes of it, and that nothing runs but what was admitted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.corpus.corpus import Case, cases
from tests.corpus.run import Trial


@pytest.mark.parametrize(
    ("stack", "case"),
    [pytest.param(stack, case, id=f"{stack}: {case.name}") for case in cases().values() for stack in case.where],
)
def test_case(stack: str, case: Case, trial_of: Callable[[str], Trial]) -> None:
    trial = trial_of(stack)
    if faults := trial.faults(case):
        told = trial.stack.log.read_text(encoding="utf-8", errors="replace")[-1000:]
        pytest.fail("; ".join(faults) + "\n" + told, pytrace=False)
