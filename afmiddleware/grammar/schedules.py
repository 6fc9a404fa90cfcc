"""When something is open: weekly hours and closed periods on the wall clock of a time zone.

Hours are half-open, `Mon-Fri 09:00-17:00` ends before 17:00, and those that end before they begin run over midnight and
belong to the day they began on. Hours follow the wall clock: one that daylight saving skips does not occur, one that
comes twice is open twice. A closed period beats open hours; its days are both within it.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

from afmiddleware.errors import GrammarError

if TYPE_CHECKING:
    from collections.abc import Sequence

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_HOURS = re.compile(r"([A-Za-z,-]+) ([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Hours(NamedTuple):
    """Open hours: on which days (0 is Monday), from which minute of the day until before which other."""

    days: frozenset[int]
    start: int
    end: int


class Period(NamedTuple):
    """Days that are closed, the first and the last of them."""

    first: date
    last: date


class Schedule(NamedTuple):
    """Open hours and closed periods in a zone, an IANA name. Without any hours it is open but for those periods."""

    hours: tuple[Hours, ...]
    closed: tuple[Period, ...]
    zone: str

    def is_open(self, now: int) -> bool:
        """Whether it is open at `now`, in microseconds since the epoch."""
        local = (_EPOCH + timedelta(microseconds=now)).astimezone(ZoneInfo(self.zone))
        today = local.date()
        if any(period.first <= today <= period.last for period in self.closed):
            return False
        if not self.hours:
            return True
        day, minute = local.weekday(), local.hour * 60 + local.minute
        return any(_within(hours, day, minute) for hours in self.hours)


def _within(hours: Hours, day: int, minute: int) -> bool:
    if hours.start < hours.end:
        return day in hours.days and hours.start <= minute < hours.end
    return (day in hours.days and minute >= hours.start) or ((day - 1) % 7 in hours.days and minute < hours.end)


def parse_hours(text: str) -> Hours:
    """Read `Mon-Fri 09:00-17:00`, `Sat,Sun 10:00-24:00` or `daily 22:00-06:00`. Raises `GrammarError`."""
    match = _HOURS.fullmatch(text)
    if match is None:
        msg = f"{text[:40]!r} is not a line of hours; write days and hours, such as Mon-Fri 09:00-17:00"
        raise GrammarError(msg)
    start, end = (int(match.group(place)) * 60 + int(match.group(place + 1)) for place in (2, 4))
    if start >= _DAY_MINUTES or end > _DAY_MINUTES:
        msg = f"{text[:40]!r} names an hour that no day has; write 00:00 to 24:00"
        raise GrammarError(msg)
    if start == end:
        msg = f"{text[:40]!r} begins and ends at once; write 00:00-24:00 for the whole day"
        raise GrammarError(msg)
    return Hours(_days(match.group(1)), start, end)


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            msg = f"{part[:20]!r} names no days; write {', '.join(DAYS)}, a range such as Mon-Fri, or daily"
            raise GrammarError(msg)
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(found)


def parse_period(first: str, last: str) -> Period:
    """Read two days such as `2026-12-24`, the last not before the first. Raises `GrammarError`."""
    period = Period(parse_day(first), parse_day(last))
    if period.last < period.first:
        msg = f"the closed period ends on {last}, before it begins on {first}; exchange the two"
        raise GrammarError(msg)
    return period


def parse_day(text: str) -> date:
    """Read a day such as `2026-12-24`. Raises `GrammarError`."""
    try:
        if _DATE.fullmatch(text) is not None:
            return date.fromisoformat(text)
    except ValueError:
        pass
    msg = f"{text[:40]!r} is not a day; write one such as 2026-12-24"
    raise GrammarError(msg)


def make_schedule(hours: Sequence[str], closed: Sequence[tuple[str, str]], zone: str) -> Schedule:
    """Make a schedule of texts and a checked zone. Raises `GrammarError`."""
    return Schedule(
        tuple(parse_hours(text) for text in hours),
        tuple(parse_period(first, last) for first, last in closed),
        zone,
    )
