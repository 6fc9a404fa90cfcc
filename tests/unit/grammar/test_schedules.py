"""Open hours on the wall clock: over midnight, over daylight saving, and closed periods."""

from __future__ import annotations

from datetime import datetime

import pytest

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.schedules import make_schedule, parse_day, parse_hours, parse_period

ZONE = "Europe/Amsterdam"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("hours", "moment", "is_open"),
    [
        ("daily 00:00-24:00", "2026-06-01T21:59:59", True),
        ("daily 23:00-24:00", "2026-06-01T21:00:00", True),  # hour 23 is an hour like others
        ("daily 23:00-24:00", "2026-06-01T22:00:00", False),
        ("Sat-Mon 09:00-10:00", "2026-06-01T07:00:00", True),  # a Monday
        ("Sat-Mon 09:00-10:00", "2026-06-02T07:00:00", False),
        ("Mon,Wed 09:00-10:00", "2026-06-03T07:30:00", True),
        ("Sun 22:00-06:00", "2026-06-01T03:59:59", True),  # the night that began on Sunday
        ("Sun 22:00-06:00", "2026-06-01T04:00:00", False),
        ("Mon 22:00-06:00", "2026-06-01T03:00:00", False),  # that night began on Sunday
        ("Sun 02:00-03:00", "2026-03-29T00:59:59", False),  # the hour that is skipped does not occur
        ("Sun 02:00-03:00", "2026-03-29T01:00:00", False),
        ("Sun 02:00-03:00", "2026-10-25T00:30:00", True),  # and the one that comes twice is open twice
        ("Sun 02:00-03:00", "2026-10-25T01:30:00", True),
        ("Sun 02:00-03:00", "2026-10-25T02:00:00", False),
        ("daily 09:00-17:00", "2026-03-28T08:00:00", True),  # an hour later in winter than in summer
        ("daily 09:00-17:00", "2026-03-29T07:00:00", True),
        ("daily 09:00-17:00", "2026-03-28T07:59:59", False),
    ],
)
def test_hours(hours: str, moment: str, is_open: bool) -> None:
    assert make_schedule([hours], [], ZONE).is_open(utc(moment)) is is_open


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-12-23T22:59:59", True),
        ("2026-12-23T23:00:00", False),
        ("2026-12-27T22:59:59", False),
        ("2026-12-27T23:00:00", True),
    ],
)
def test_closed_days_are_whole_local_days_and_both_within(moment: str, is_open: bool) -> None:
    for hours in ([], ["daily 00:00-24:00"]):
        schedule = make_schedule(hours, [("2026-12-24", "2026-12-27")], ZONE)
        assert schedule.is_open(utc(moment)) is is_open


@pytest.mark.parametrize(
    "text",
    ["", "Mon", "Mon 9:00-17:00", "Mon 09:00-17:60", "Mon 24:00-25:00", "Mon 24:00-02:00", "Mon 09:00-09:00", "mon 09:00-10:00",
     "Mon- 09:00-10:00", "Mon, 09:00-10:00", "Mon-Fri-Sat 09:00-10:00", "Mon 09:00-10:00\n", "Mon ٠٩:00-10:00"],
)  # fmt: skip
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_hours(text)


@pytest.mark.parametrize("text", ["", "2026-2-1", "2026-02-30", "20260201", "2026-02-01T00:00", "2026-02-01\n"])
def test_days_that_are_none(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_day(text)


def test_a_period_ends_after_it_begins() -> None:
    assert parse_period("2026-12-24", "2026-12-24").first.day == 24
    with pytest.raises(GrammarError):
        parse_period("2026-12-25", "2026-12-24")
