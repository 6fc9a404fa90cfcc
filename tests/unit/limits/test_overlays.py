"""Caps of its own for an actor: they narrow, and only where they may they widen."""

from __future__ import annotations

import pytest

from afmiddleware.config.limits import limits_of
from afmiddleware.config.load import load
from afmiddleware.config.overlays import overlays_of
from afmiddleware.limits.select import Limits
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money

TEXT = """version: 1
service: s
limits:
  - {name: daily, spend: 100 USD, window: day}
  - {name: burst, rate: 30/minute}
  - {name: once, concurrent: 5}
actors:
  "key:*": {limits: {daily: 50 USD, once: 2}}
  "key:a": {limits: {daily: 20 USD, burst: 5/minute}}
  "key:rich": {override: true, limits: {daily: 1000 USD}}
  "key:r*": {override: true, limits: {daily: 400 USD, burst: 60/minute}}
  "jwt:x|": {enabled: false}
"""


def caps(actor_id: str) -> dict[str, int]:
    config = load(TEXT)
    limits = Limits(limits_of(config), overlays_of(config))
    actor = Actor(id=actor_id)
    event = ActionEvent(capability="a.b", actor=actor, amount=Money.parse("1 USD"))
    charges = (*limits.spends(event), *limits.rates("a.b", actor), *limits.slots("a.b", actor))
    return {charge.limit.name: charge.limit.cap for charge in charges}


@pytest.mark.parametrize(
    ("actor", "daily", "burst", "once"),
    [
        ("jwt:x|y", 10000, 30, 5),
        ("key:b", 5000, 30, 2),
        ("key:a", 2000, 5, 2),
        ("key:ab", 5000, 30, 2),
        ("key:rich", 5000, 60, 2),  # what narrows still narrows
        ("key:rx", 5000, 60, 2),
    ],
)
def test_the_cap_of_an_actor(actor: str, daily: int, burst: int, once: int) -> None:
    assert caps(actor) == {"daily": daily, "burst": burst, "once": once}


def test_of_two_that_widen_the_one_for_this_very_actor_holds() -> None:
    text = TEXT.replace('  "key:*": {limits: {daily: 50 USD, once: 2}}\n', "")
    config = load(text)
    limits = Limits(limits_of(config), overlays_of(config))
    event = ActionEvent(capability="a.b", actor=Actor(id="key:rich"), amount=Money.parse("1 USD"))
    assert limits.spends(event)[0].limit.cap == 100_000


def test_what_is_kept_of_actors_is_bounded() -> None:
    config = load(TEXT)
    limits = Limits(limits_of(config), overlays_of(config))
    for number in range(10_000):
        limits.rates("a.b", Actor(id=f"key:{number}"))
    assert len(limits._own) <= 4096
