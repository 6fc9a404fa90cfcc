"""Calendar windows as instants: a local day has 23, 24 or 25 hours, a year 365 or 366 days."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

CALENDAR: Final = frozenset({"minute", "hour", "day", "week", "month", "year"})
"""The kinds of calendar windows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_DECEMBER: Final = 12
_PARTS: Final = {"minute": 60, "hour": 3600}


def bounds(kind: str, now: int, zone: str, week_start: int = 0) -> tuple[int, int]:
    """The first instant of the calendar window that holds `now`, and of the next one.

    All three are microseconds since the epoch; `zone` is an IANA name, `week_start` the first day of a week (0 is
    Monday). Days and what is longer begin at local midnight: where that does not exist at the first instant that does,
    where it comes twice at the first. Minutes and hours are those of the clock on the wall; one that comes twice when
    clocks go back is two.
    """
    tz = ZoneInfo(zone)
    if kind in _PARTS:
        return _part(now, tz, _PARTS[kind] * _SECOND)
    first = _first(kind, datetime.fromtimestamp(now // _SECOND, tz).date(), week_start)
    start, end = _midnight(first, tz), _midnight(_next(kind, first), tz)
    while end <= now:
        # A clock that was set back over midnight reads the old date again; the new day has begun and goes on.
        first = _next(kind, first)
        start, end = end, _midnight(_next(kind, first), tz)
    return start, end


def day_bounds(now: int, zone: str) -> tuple[int, int]:
    """The first instant of the local day that holds `now`, and of the next one."""
    return bounds("day", now, zone)


def _part(now: int, tz: ZoneInfo, length: int) -> tuple[int, int]:
    """An hour or a minute of the wall's clock, which may begin at any minute of UTC."""
    offset = datetime.fromtimestamp(now // _SECOND, tz).utcoffset() or timedelta()
    shift = offset // timedelta(microseconds=1)
    start = (now + shift) // length * length - shift
    return start, start + length


def _first(kind: str, day: date, week_start: int) -> date:
    """The first day of the window that holds `day`."""
    if kind == "week":
        return day - timedelta(days=(day.weekday() - week_start) % 7)
    if kind == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if kind == "year" else day


def _next(kind: str, first: date) -> date:
    """The first day of the window after the one that begins on `first`."""
    if kind == "week":
        return first + timedelta(days=7)
    if kind == "month":
        over = first.month == _DECEMBER
        return date(first.year + over, 1 if over else first.month + 1, 1)
    return date(first.year + 1, 1, 1) if kind == "year" else first + timedelta(days=1)


def _midnight(day: date, tz: ZoneInfo) -> int:
    naive = datetime.combine(day, time.min)
    first = naive.replace(tzinfo=tz, fold=0)
    before, after = first.utcoffset(), naive.replace(tzinfo=tz, fold=1).utcoffset()
    if before is not None and after is not None and after > before:
        # A gap: fold=0 reads the offset before the jump, which puts a midnight that does not exist at the end of the
        # jump, the first instant of the day, exactly when it starts at midnight; a jump that began earlier (23:30)
        # moves further than the day's start, so take the jump itself.
        return _jump(naive - before, after - before, tz)
    return (first - _EPOCH) // timedelta(microseconds=1)


def _jump(candidate: datetime, size: timedelta, tz: ZoneInfo) -> int:
    """The instant of the offset change within `size` around a wall time that does not exist."""
    low = candidate.replace(tzinfo=UTC) - size
    high = candidate.replace(tzinfo=UTC) + size
    old = low.astimezone(tz).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(tz).utcoffset() == old:
            low = middle
        else:
            high = middle
    return (high - _EPOCH) // timedelta(microseconds=1)
