"""The fuzzers of the verifiers and of the reader of exports, for as long as `AFM_FUZZ_SECONDS` says (a minute)."""

from __future__ import annotations

import os
import time
from itertools import count

import pytest
from hypothesis import HealthCheck, seed, settings

from tests.unit.receipts import test_attacks, test_standalone

FUZZERS = (
    test_standalone.test_whatever_is_done_to_a_bundle_it_is_refused_or_says_the_same,
    test_standalone.test_noise_never_crashes_the_verifier_or_the_importer,
    test_attacks.test_no_single_change_goes_unseen,
)


@pytest.mark.slow
def test_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    often = settings(max_examples=500, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    for fuzzer in FUZZERS:
        monkeypatch.setattr(fuzzer, "_hypothesis_internal_use_settings", often)
    ends = time.monotonic() + float(os.environ.get("AFM_FUZZ_SECONDS", "60"))
    start = time.time_ns()
    for number in count():
        if time.monotonic() > ends:
            break
        for fuzzer in FUZZERS:
            seed(start + number)(fuzzer)()
