"""The schedules of a checked policy, and its caps for single actors, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.grammar.durations import parse_rate
from afmiddleware.grammar.schedules import Schedule, make_schedule
from afmiddleware.model.limit import Overlay
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.config.schema import Config


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
    rates = {entry.name for entry in config.limits if entry.rate is not None}
    return tuple(
        Overlay(
            actor=actor,
            limit=limit,
            cap=parse_rate(cap)[0] if limit in rates else Money.parse(cap, config.exponents).minor,
            override=entry.override,
        )
        for actor, entry in config.actors.items()
        for limit, cap in entry.limits.items()
    )
