"""What is known to be noticed by no test is still there to be changed, and says why nothing can notice it."""

from __future__ import annotations

from tests.mutants import mutants
from tests.mutate import ROOT, unnoticed


def test_every_listed_change_can_still_be_made_and_has_a_reason() -> None:
    for path, entries in unnoticed().items():
        known = {(one.function, one.change) for one in mutants(path, (ROOT / path).read_text("utf-8"))}
        for entry in entries:
            assert (entry["in"], entry["change"]) in known, (path, entry)
            assert entry["why"].endswith("."), (path, entry)
