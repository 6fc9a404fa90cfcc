"""The limits of a checked policy as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.config.schema import CLAIM, WEEKDAYS, ClaimedSpend
from afmiddleware.grammar.amounts import MAX_MINOR
from afmiddleware.grammar.durations import parse_duration, parse_rate
from afmiddleware.model.limit import Limit, Unit, Window
from afmiddleware.model.money import Money, exponent_of

if TYPE_CHECKING:
    from afmiddleware.config.schema import Config, LimitEntry


def limits_of(config: Config) -> tuple[Limit, ...]:
    """Every entry under `limits:` in the order of the file.

    A counter's name changes with the shape of its window and with its currency, and not with the cap alone: a raised
    cap keeps what was counted.
    """
    return tuple(_limit(entry, config) for entry in config.limits)


def _limit(entry: LimitEntry, config: Config) -> Limit:
    if entry.rate is not None:
        return _rate(entry, entry.rate)
    return _spend(entry, config) if entry.concurrent is None else _concurrent(entry, entry.concurrent)


def _concurrent(entry: LimitEntry, cap: int) -> Limit:
    return Limit(
        name=entry.name,
        unit=Unit.CONCURRENT,
        cap=cap,
        window=Window("running"),
        per=entry.per,
        capability=entry.capability,
        cell=f"{entry.name}/c",
        line=entry.line,
    )


def _rate(entry: LimitEntry, rate: str) -> Limit:
    cap, seconds = parse_rate(rate)
    if entry.style == "pacing":
        return _paced(entry, cap, seconds)
    return Limit(
        name=entry.name,
        unit=Unit.RATE,
        cap=cap,
        window=Window("rolling", seconds),
        per=entry.per,
        capability=entry.capability,
        cell=f"{entry.name}/r{seconds}",
        line=entry.line,
        admitted=entry.counts == "admitted",
    )


def _paced(entry: LimitEntry, quota: int, seconds: int) -> Limit:
    return Limit(
        name=entry.name,
        unit=Unit.RATE,
        cap=(entry.burst or 1) if quota else 0,
        window=Window("pacing", seconds),
        per=entry.per,
        capability=entry.capability,
        cell=f"{entry.name}/p{quota}-{seconds}",
        line=entry.line,
        quota=quota,
        admitted=entry.counts == "admitted",
    )


def _most(entry: ClaimedSpend, config: Config) -> Money:
    """More than any claim says."""
    currency = entry.currency or config.currency
    return Money(MAX_MINOR, currency, exponent_of(currency, config.exponents))


def _spend(entry: LimitEntry, config: Config) -> Limit:
    claimed = entry.spend if isinstance(entry.spend, ClaimedSpend) else None
    money = _most(claimed, config) if claimed is not None else Money.parse(str(entry.spend), config.exponents)
    kind, _, length = str(entry.window).partition(" ")
    seconds = parse_duration(length) if length else 0
    week_start = WEEKDAYS.index(entry.week_start) if entry.week_start else 0
    return Limit(
        name=entry.name,
        unit=Unit.SPEND,
        cap=money.minor,
        window=Window(kind, seconds, config.timezone, week_start),
        per=entry.per,
        capability=entry.capability,
        currency=money.currency,
        exponent=money.exponent,
        cell=f"{entry.name}/{kind}{seconds or week_start or ''}/{money.currency}",
        line=entry.line,
        on_exceed=entry.on_exceed if entry.on_exceed in ("trip", "alert") else "",
        half_open=entry.half_open or 0,
        stops_free=entry.free == "refuse",
        claim=claimed.from_.removeprefix(CLAIM) if claimed is not None else "",
        minor=claimed is not None and claimed.unit == "minor",
    )
