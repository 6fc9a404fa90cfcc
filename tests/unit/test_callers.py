"""What stands in the log about a credential that is not good: one line, whatever its author put into it."""

from __future__ import annotations

import pytest

from afmiddleware.callers import note
from afmiddleware.identity.outcome import Absent, Invalid, Unavailable


def test_a_cause_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "afmiddleware.identity")
    note(Invalid("bad\n2026-11-21 CRITICAL all is lost" + "x" * 1000), "d-1", "192.0.2.1")
    note(Unavailable("no answer"), "d-2", "")
    note(Absent(), "d-3", "192.0.2.1")
    first, second = caplog.messages
    assert first.startswith(r"d-1: the credential from 192.0.2.1 is refused: 'bad\n2026-11-21 CRITICAL all is lostx")
    assert len(first) < 400
    assert second == "d-2: the credential from nowhere cannot be checked now: no answer"
