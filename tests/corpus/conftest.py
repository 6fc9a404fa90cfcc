"""One server a stack, for all cases; it ends with the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.corpus.run import Trial
from tests.corpus.stacks import Stack


@pytest.fixture(scope="session")
def trial_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Trial]]:
    """Gives the trial of a stack, started when it is first asked for. At the end every act is judged once more."""
    trials: dict[str, Trial] = {}

    def get(name: str) -> Trial:
        if name not in trials:
            trials[name] = Trial(Stack(name, tmp_path_factory.mktemp(name)))
        return trials[name]

    yield get
    for trial in trials.values():
        trial.stack.leave()
    # Also what ran later than its case waited for, or was never asked for.
    assert {name: faults for name, trial in trials.items() if (faults := trial.end())} == {}
