"""Durations, rates and windows as fence.yaml spells them."""

from __future__ import annotations

import re

from afmiddleware.errors import GrammarError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_RATE = re.compile(r"(0|[1-9][0-9]{0,8})/(second|minute|hour|day)", re.ASCII)


def parse_duration(text: str) -> int:
    """Read `90s`, `60m`, `24h` or `7d` as seconds. Raises `GrammarError`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        msg = f"{text[:40]!r} is not a duration: a whole number and s, m, h or d, such as 60m"
        raise GrammarError(msg)
    return int(match.group(1)) * _UNITS[match.group(2)]


def parse_rate(text: str) -> tuple[int, int]:
    """Read `30/minute` as (30, 60): how many, in how many seconds. `0/minute` lets none pass. Raises `GrammarError`."""
    match = _RATE.fullmatch(text)
    if match is None:
        msg = f"{text[:40]!r} is not a rate: a whole number, a slash and second, minute, hour or day, such as 30/minute"
        raise GrammarError(msg)
    return int(match.group(1)), _PERIODS[match.group(2)]
