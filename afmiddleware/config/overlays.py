"""The schedules of a checked policy, and its caps for single actors, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.grammar.durations import parse_rate
from afmiddleware.grammar.schedules import Schedule, make_schedule
from afmiddleware.model.limit import Overlay
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.config.schema import Config, LimitEntry


def schedules_of(config: Config) -> Mapping[str, Schedule]:
    """Every schedule by its name."""
    return {
        name: make_schedule(
            entry.open,
            [(period.from_, period.to) for period in entry.closed],
            entry.timezone or config.timezone,
        )
        for name, entry in config.schedules.items()
    }


def overlays_of(config: Config) -> tuple[Overlay, ...]:
    """Every cap for an actor, in the order of the file."""
    limits = {entry.name: entry for entry in config.limits}
    return tuple(
        Overlay(
            actor=actor,
            limit=limit,
            cap=_cap(limits[limit], cap, config),
            override=entry.override,
        )
        for actor, entry in config.actors.items()
        for limit, cap in entry.limits.items()
    )


def _cap(limit: LimitEntry, text: str, config: Config) -> int:
    if limit.rate is not None:
        return parse_rate(text)[0]
    return int(text) if limit.concurrent is not None else Money.parse(text, config.exponents).minor
