"""The counters against a list of everything that was ever counted: never below the truth, freed in time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.limits.calendar import day_bounds
from afmiddleware.limits.cells import Cell, add, credit, expired, frees_at, new_cell, resets_at, roll, spend_cell
from afmiddleware.limits.rows import Hold, Line, Row, pack, unpack_hold, unpack_row
from afmiddleware.model import Limit, Unit, Window

SECOND = 1_000_000
START = 1_795_262_400 * SECOND


def limit(kind: str, seconds: int = 0, unit: Unit = Unit.SPEND, zone: str = "UTC") -> Limit:
    return Limit(name="x", unit=unit, cap=1000, window=Window(kind, seconds, zone), cell="x")


STEPS = st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 50), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize("unit", [Unit.RATE, Unit.SPEND])
@given(steps=STEPS, seconds=st.sampled_from([1, 60, 61, 3600]))
def test_a_ring_is_never_below_what_its_window_holds(
    unit: Unit, steps: list[tuple[int, int, bool]], seconds: int
) -> None:
    ring = limit("rolling", seconds, unit)
    now = START
    cell = new_cell(ring, now)
    events: list[list[int]] = []
    for wait, amount, back in steps:
        now += wait
        roll(cell, now, Window("day", 0, "UTC"))
        if back and events:
            at, counted, mark = events.pop()
            credit(cell, mark, counted)
            assert at <= now
        else:
            events.append([now, amount, add(cell, amount)])
        inside = sum(counted for at, counted, _ in events if at > now - seconds * SECOND)
        late = sum(counted for at, counted, _ in events if at > now - seconds * SECOND - cell.span - len(cell.slots))
        assert inside <= cell.total <= late
        assert cell.total == sum(cell.slots)
        assert min(cell.slots) >= 0


@given(steps=STEPS, seconds=st.sampled_from([60, 3600]), room=st.integers(1, 100))
def test_a_ring_has_room_exactly_from_when_it_says(steps: list[tuple[int, int, bool]], seconds: int, room: int) -> None:
    ring, now = limit("rolling", seconds), START
    cell = new_cell(ring, now)
    for wait, amount, _ in steps:
        now += wait
        roll(cell, now, Window("day", 0, "UTC"))
        add(cell, amount)
    cap = 100
    at = resets_at(cell, room, cap)
    before, after = copied(cell), copied(cell)
    roll(after, max(at, now), Window("day", 0, "UTC"))
    assert after.total + room <= cap
    if at > now:
        roll(before, at - 1, Window("day", 0, "UTC"))
        assert before.total + room > cap


@given(
    quota=st.integers(1, 50),
    burst=st.integers(1, 5),
    waits=st.lists(st.integers(-2 * SECOND, 8 * SECOND), min_size=1, max_size=80),
)
def test_a_paced_rate_is_the_generic_cell_rate_algorithm(quota: int, burst: int, waits: list[int]) -> None:
    """Against the textbook: one time, at which all that was counted has drained away."""
    paced = Limit(name="x", unit=Unit.RATE, cap=burst, window=Window("pacing", 60), quota=quota, cell="x")
    interval = -(-60 * SECOND // quota)
    now = latest = START
    cell = new_cell(paced, now)
    empty_at = 0
    passed: list[int] = []
    for wait in waits:
        now += wait
        latest = max(latest, now)
        roll(cell, now, paced.window)
        # A clock that was set back changes nothing until it is past what was seen.
        fits = max(empty_at - latest, 0) <= (burst - 1) * interval
        if cell.total < burst:
            assert fits
            add(cell, 1)
            empty_at = max(empty_at, latest) + interval
            passed.append(latest)
        else:
            assert not fits
            at = resets_at(cell, 1, burst)
            later = copied(cell)
            roll(later, at, paced.window)
            assert later.total < burst
            later = copied(cell)
            roll(later, at - 1, paced.window)
            assert later.total == burst
        assert expired(cell, latest) == (latest >= empty_at)
        assert expired(cell, max(empty_at, latest))
        assert empty_at <= latest or not expired(cell, empty_at - 1)
    assert all(sum(at <= one < at + 60 * SECOND for one in passed) <= quota + burst - 1 for at in passed)


def copied(cell: Cell) -> Cell:
    return Cell(cell.until, cell.span, cell.total, list(cell.slots))


@given(st.lists(st.tuples(st.integers(-90_000, 90_000), st.integers(0, 50)), max_size=30))
def test_a_day_counts_its_own_and_no_clock_opens_it_twice(steps: list[tuple[int, int]]) -> None:
    day, now = limit("day", zone="Europe/Amsterdam"), START
    cell = new_cell(day, now)
    latest = cell.until
    for move, amount in steps:
        now += move * SECOND
        roll(cell, now, Window("day", 0, "Europe/Amsterdam"))
        assert cell.until >= latest
        latest = cell.until
        assert now < cell.until
        add(cell, amount)


def test_a_counter_without_end_never_forgets() -> None:
    cell = new_cell(limit("total"), START)
    add(cell, 5)
    roll(cell, START * 2, Window("day", 0, "UTC"))
    assert (cell.total, expired(cell, START * 2), resets_at(cell, 1, 5)) == (5, False, 0)


def test_a_cap_that_can_never_fit_resets_never() -> None:
    cell = new_cell(limit("rolling", 60), START)
    assert resets_at(cell, 11, 10) == 0
    assert resets_at(cell, 1, 0) == 0


@pytest.mark.parametrize(
    ("zone", "noon", "begins", "hours"),
    [
        ("UTC", "2026-11-21T12:00", "2026-11-21T00:00:00+00:00", 24),
        ("Europe/London", "2026-03-29T12:00", "2026-03-29T00:00:00+00:00", 23),
        ("Europe/London", "2026-10-25T12:00", "2026-10-25T00:00:00+01:00", 25),
        ("America/New_York", "2026-03-08T12:00", "2026-03-08T00:00:00-05:00", 23),
        ("Africa/Cairo", "2024-04-26T12:00", "2024-04-26T01:00:00+03:00", 23),
        ("America/Santiago", "2024-09-08T12:00", "2024-09-08T01:00:00-03:00", 23),
        ("Asia/Beirut", "2024-03-31T12:00", "2024-03-31T01:00:00+03:00", 23),
        ("Australia/Lord_Howe", "2026-10-04T12:00", "2026-10-04T00:00:00+10:30", 23.5),
        ("America/Toronto", "1919-03-31T12:00", "1919-03-31T00:30:00-04:00", 23.5),
        ("Pacific/Apia", "2011-12-31T12:00", "2011-12-31T00:00:00+14:00", 24),
    ],
)
def test_a_local_day_begins_at_its_first_instant(zone: str, noon: str, begins: str, hours: float) -> None:
    at = datetime.fromisoformat(noon).replace(tzinfo=ZoneInfo(zone))
    start, end = day_bounds(int(at.timestamp()) * SECOND, zone)
    assert datetime.fromtimestamp(start // SECOND, ZoneInfo(zone)).isoformat() == begins
    assert (end - start) / SECOND / 3600 == hours
    assert day_bounds(start, zone) == (start, end)
    assert day_bounds(start - 1, zone)[1] == start
    assert day_bounds(end - 1, zone) == (start, end)


def test_rows_and_reservations_come_back_from_their_bytes() -> None:
    row = Row({"x": new_cell(limit("rolling", 60), START)}, 7, b"leaf")
    assert unpack_row(pack(row)) == row
    hold = Hold(
        "key:a", "held", 500, "USD", 2, b"leaf", START, [Line("global", "x", 3, 500, Window("month", 0, "UTC"))]
    )
    assert unpack_hold(pack(hold)) == hold


@given(
    slots=st.lists(st.sampled_from([0, 0, 0, 1, 5]), min_size=2, max_size=61) | st.just([]),
    at=st.integers(1, 10**6),
    span=st.sampled_from([1, 7, 1000, 0, -5]),
    plain=st.integers(0, 9),
    cap=st.sampled_from([0, 1, 5, 50, 10**6]),
)
def test_what_comes_back_first_is_room_for_one_more(slots, at, span, plain, cap) -> None:
    if slots:
        span = max(span, 1)
    cell = Cell(at * max(span, 1), span, sum(slots) if slots else plain, slots)
    room = cap - cell.total + 1 if 0 < cell.total <= cap else 1
    assert frees_at(cell, cap) == resets_at(cell, room, cap)


def test_a_session_that_ends_goes_on_counting_until_it_is_dropped() -> None:
    window = Window("session", 60)
    cell = spend_cell(window, 1_000_000)
    mark = add(cell, 5)
    assert not expired(cell, 60_999_999)
    assert expired(cell, 61_000_000)
    # Nobody should come after its end; who does has what it had.
    roll(cell, 70_000_000, window)
    assert (cell.total, expired(cell, 129_999_999), expired(cell, 130_000_000)) == (5, False, True)
    credit(cell, mark, 5)
    assert cell.total == 5
    assert (resets_at(cell, 1, 5), frees_at(cell, 5)) == (0, 0)
    assert not expired(spend_cell(Window("session"), 0), 2**61)
