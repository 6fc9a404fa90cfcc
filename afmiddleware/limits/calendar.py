"""Calendar windows as instants: a local day has 23, 24 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000


def day_bounds(now: int, zone: str) -> tuple[int, int]:
    """The first instant of the local day that holds `now`, and of the next one.

    All three are microseconds since the epoch; `zone` is an IANA name. Where local midnight does not exist the day
    starts at the first instant that does; where it comes twice, at the first.
    """
    tz = ZoneInfo(zone)
    day = datetime.fromtimestamp(now // _SECOND, tz).date()
    start, end = _midnight(day, tz), _midnight(day + timedelta(days=1), tz)
    while end <= now:
        # A clock that was set back over midnight reads the old date again; the new day has begun and goes on.
        day += timedelta(days=1)
        start, end = end, _midnight(day + timedelta(days=1), tz)
    return start, end


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
