"""Local days follow one another without a gap and without an overlap, whatever a zone does to its clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmiddleware.limits.calendar import CALENDAR, bounds, day_bounds
from afmiddleware.limits.cells import add, new_cell, roll
from afmiddleware.model import Limit, Unit, Window

SECOND = 1_000_000
ZONES = [
    "UTC",
    "Africa/Cairo",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/St_Johns",
    "America/Toronto",
    "Antarctica/Casey",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
]
INSTANTS = st.integers(0, 2_200_000_000)


def local(at: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(zone))


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


@pytest.mark.parametrize("kind", sorted(CALENDAR))
@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=25)
@given(at=INSTANTS, part=st.integers(0, SECOND - 1), week_start=st.integers(0, 6))
def test_windows_hold_their_instant_and_end_at_a_boundary(
    zone: str, kind: str, at: int, part: int, week_start: int
) -> None:
    now = at * SECOND + part
    start, end = bounds(kind, now, zone, week_start)
    assert start <= now < end
    first = local(start, zone)
    if kind in ("minute", "hour"):
        assert end - start == {"minute": 60, "hour": 3600}[kind] * SECOND
        assert (first.second, first.minute if kind == "hour" else 0) == (0, 0) or zone == "Australia/Lord_Howe"
        return
    assert bounds(kind, start, zone, week_start) == bounds(kind, end - 1, zone, week_start) == (start, end)
    assert bounds(kind, end, zone, week_start)[0] == end
    assert first.date() > local(start - 1, zone).date()
    if kind == "week":
        assert first.weekday() == week_start or zone == "Pacific/Apia"
    elif kind != "day":
        assert first.day == 1
        assert kind == "month" or first.month == 1


@pytest.mark.parametrize(
    ("kind", "at", "begins", "ends"),
    [
        ("hour", "2026-10-25T01:30:00+01:00", "2026-10-25T01:00:00+01:00", "2026-10-25T01:00:00+00:00"),
        ("hour", "2026-10-25T01:30:00+00:00", "2026-10-25T01:00:00+00:00", "2026-10-25T02:00:00+00:00"),
        ("month", "2024-02-29T12:00:00+00:00", "2024-02-01T00:00:00+00:00", "2024-03-01T00:00:00+00:00"),
        ("month", "2026-12-31T23:59:59+00:00", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("month", "2026-10-31T12:00:00+00:00", "2026-10-01T00:00:00+01:00", "2026-11-01T00:00:00+00:00"),
        ("week", "2027-01-01T12:00:00+00:00", "2026-12-28T00:00:00+00:00", "2027-01-04T00:00:00+00:00"),
        ("year", "2026-07-01T00:00:00+01:00", "2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_windows_of_london(kind: str, at: str, begins: str, ends: str) -> None:
    assert bounds(kind, instant(at), "Europe/London") == (instant(begins), instant(ends))


def test_a_week_may_begin_on_sunday() -> None:
    start, end = bounds("week", instant("2026-11-21T12:00:00+00:00"), "UTC", 6)
    assert (start, end) == (instant("2026-11-15T00:00:00+00:00"), instant("2026-11-22T00:00:00+00:00"))


@pytest.mark.parametrize("zone", ZONES)
@given(at=INSTANTS, part=st.integers(0, SECOND - 1))
def test_days_follow_one_another(zone: str, at: int, part: int) -> None:
    now = at * SECOND + part
    start, end = day_bounds(now, zone)
    assert start <= now < end
    assert day_bounds(start, zone) == day_bounds(end - 1, zone) == (start, end)
    assert day_bounds(end, zone)[0] == end
    assert day_bounds(start - 1, zone)[1] == start
    # The first instant of a date, and no instant of that date before it.
    assert local(start, zone).date() > local(start - 1, zone).date()


# An instant of the day in which the clocks of a zone change, and how many hours that day has.
CHANGES = [
    ("Africa/Cairo", "2024-04-26T00:00:00+02:00", 23),
    ("Africa/Cairo", "2024-10-31T23:59:59+03:00", 25),
    ("America/Havana", "2026-11-01T00:30:00-04:00", 25),
    ("America/New_York", "2026-11-01T01:30:00-04:00", 25),
    ("America/Santiago", "2026-04-04T23:30:00-03:00", 25),
    ("America/St_Johns", "2010-11-06T23:31:00-03:30", 25),
    ("Antarctica/Casey", "2010-03-04T23:59:59+08:00", 27),
    ("Asia/Beirut", "2026-10-24T23:30:00+02:00", 25),
    ("Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", 24.5),
    ("Europe/London", "2026-10-25T01:30:00+00:00", 25),
    ("Pacific/Apia", "2011-12-29T23:59:59-10:00", 24),
]


@pytest.mark.parametrize(("zone", "at", "hours"), CHANGES, ids=[f"{zone} {at[:10]}" for zone, at, _ in CHANGES])
def test_a_budget_of_a_day_is_given_once_in_that_day(zone: str, at: str, hours: float) -> None:
    start, end = day_bounds(instant(at), zone)
    assert start <= instant(at) < end
    assert (end - start) / SECOND / 3600 == hours
    day = Limit(name="d", unit=Unit.SPEND, cap=100, window=Window("day", 0, zone), cell="d")
    cell = new_cell(day, start)
    add(cell, 100)
    for now in range(start, end, 600 * SECOND):
        roll(cell, now, Window("day", 0, zone))
        assert cell.total == 100
    roll(cell, end - 1, Window("day", 0, zone))
    assert cell.total == 100
    roll(cell, end, Window("day", 0, zone))
    assert cell.total == 0
    assert (cell.until - cell.span, day_bounds(end, zone)[1]) == (end, cell.until)


def test_a_counter_made_while_the_clock_reads_the_old_date_again_ends_with_its_day() -> None:
    """In St. John's the clocks went from 00:01 back to 23:01: the new day had begun a minute before."""
    again = instant("2010-11-06T23:31:00-03:30")
    day = Limit(name="d", unit=Unit.SPEND, cap=100, window=Window("day", 0, "America/St_Johns"), cell="d")
    cell = new_cell(day, again)
    add(cell, 100)
    roll(cell, again + SECOND, Window("day", 0, "America/St_Johns"))
    assert cell.total == 100
    roll(cell, instant("2010-11-08T00:00:00-03:30"), Window("day", 0, "America/St_Johns"))
    assert (cell.total, datetime.fromtimestamp((cell.until - cell.span) // SECOND, UTC).hour) == (0, 3)
