"""Whom a share falls on: the same callers wherever the ledger is the same, and nobody can tell whom without its key."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware import ActionEvent, Fence
from afmiddleware.model import Actor, Tier
from afmiddleware.policy.rules import falls_on

POLICY = """
version: 1
service: s
mode: {mode}
ledger: sqlite:///{ledger}.db
rules:
  deny: [{{id: no, capability: jobs.run.here{observe}}}]
  allow: ["**"]
"""
ACTORS = [f"key:{number}" for number in range(400)]


def chosen(folder: Path, ledger: str, how: str) -> set[str]:
    """Who is not refused, by a share of the mode or of the rule."""
    mode, observe = ("observe 50%", "") if how == "mode" else ("enforce", ", observe: 50%")
    place = folder / f"{ledger}.yaml"
    place.write_text(POLICY.format(mode=mode, observe=observe, ledger=ledger))
    with closing(Fence.from_file(place, env={})) as fence:
        if how == "mode":
            return {one for one in ACTORS if fence.plan.facing(Actor(id=one, tier=Tier.TOKEN)).observe}
        events = [
            ActionEvent.create(actor=one, resource="jobs", action="run", environment="here", tier="token")
            for one in ACTORS
        ]
        return {event.actor.id for event in events if fence.decide(event).authorized}


@pytest.mark.parametrize(("how", "name"), [("mode", "mode"), ("rule", "no")])
def test_a_share_is_drawn_under_the_key_of_the_ledger(tmp_path: Path, how: str, name: str) -> None:
    one = chosen(tmp_path, "one", how)
    assert one == chosen(tmp_path, "one", how)
    assert 100 < len(one) < 300
    assert one != chosen(tmp_path, "other", how)
    assert one != {actor for actor in ACTORS if falls_on(5000, name, actor)}
