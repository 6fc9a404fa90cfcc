"""The cost of a decision by the policy alone: 10 000 rules against 10, and against reading a request's JSON body."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from afmiddleware.config.load import load
from afmiddleware.config.overlays import schedules_of
from afmiddleware.grammar.lists import make_words
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.policy.compiled import Policy, PolicySource, compile_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FEW: Final = 10
MANY: Final = 10_000
RATIO: Final = 1.3
JSON_RATIO: Final = 2.0

BODY: Final = json.dumps(
    {
        "price": "120.50",
        "currency": "USD",
        "airline": "acme",
        "flight_id": "KL1234",
        "passengers": [{"name": "A. Traveller", "seat": "12A"}, {"name": "B. Traveller", "seat": "12B"}],
        "note": "a window seat if there is one, and no meal",
        "contact": {"mail": "a@example.com"},
        "terms": True,
    }
)


class _Source:
    """What the compiler reads of a configuration."""

    def __init__(self, text: str) -> None:
        config = load(text)
        self.rules = config.rules
        self.assets = config.exponents
        self.lists = {"vendors": make_words(["acme", "globex"])}
        self.schedules = schedules_of(config)


def policy(rounds: int, requests: int) -> None:
    """Print microseconds per decision.

    Both policies are asked for equally many capabilities, those of the large one spread over all of its rules. Lines
    with `each in turn` go round 6 000 events instead, which the large policy has as many capabilities for: what it
    knows of each then has to come from outside of the processor's caches, as the events have to for both.
    """
    few, many = _compiled(FEW), _compiled(MANY)
    body = BODY.encode()
    sides: dict[str, Callable[[], float]] = {
        "10 rules": _driver(few, _events(FEW), requests),
        "10 000 rules": _driver(many, _spread(_events(MANY)), requests),
        "10 rules, each in turn": _driver(few, [event for _ in range(MANY // FEW) for event in _events(FEW)], requests),
        "10 000 rules, each in turn": _driver(many, _events(MANY), requests),
        "json.loads, 300 bytes": lambda: _timed(lambda: [json.loads(body) for _ in range(requests)], requests),
        "10 rules, first sight": _first_sight(few, _events(FEW), requests),
        "10 000 rules, first sight": _first_sight(many, _spread(_events(MANY)), requests),
    }
    for drive in sides.values():
        drive()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            times[name].append(sides[name]())
    found = {name: median(values) for name, values in times.items()}
    table = Table("decision", "us")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}")
    console = Console()
    console.print(table)
    for top, bottom, most in (
        ("10 000 rules", "10 rules", RATIO),
        ("10 000 rules, each in turn", "10 rules, each in turn", RATIO),
        ("10 000 rules, first sight", "10 rules, first sight", RATIO),
        ("10 rules", "json.loads, 300 bytes", JSON_RATIO),
    ):
        ratio = median(a / b for a, b in zip(times[top], times[bottom], strict=True))
        console.print(f"{top} / {bottom}: {ratio:.2f} (at most {most}: {'yes' if ratio <= most else 'NO'})")


def _compiled(count: int) -> Policy:
    # Of ten rules six allow, three deny under a condition, and one asks for an approval.
    groups = range(count // 10)
    allow = [
        f"    - {{capability: g{g}.c{c}.*, identity: token, scopes: [book], max_amount: 500 USD, "
        "when: {recipient: {in: $vendors}}}"
        for g in groups
        for c in range(6)
    ]
    deny = [f"    - {{capability: g{g}.*.del*, when: {{payload.force: {{eq: true}}}}}}" for g in groups]
    deny += [f"    - {{capability: g{g}.**, when: {{network: {{in: ['eip155:56']}}}}}}" for g in groups]
    deny += [f"    - {{capability: g{g}.c1.pay, when: {{amount: {{gte: 400 USD}}}}}}" for g in groups]
    ask = [f"    - {{capability: g{g}.c2.pay, when: {{amount: {{gte: 300 USD}}}}}}" for g in groups]
    lines = ["version: 1", "service: bench", "lists: {vendors: [acme, globex]}", "rules:", "  deny:", *deny]
    text = "\n".join([*lines, "  require_approval:", *ask, "  allow:", *allow, ""])
    source: PolicySource = _Source(text)
    return compile_policy(source)


def _events(count: int) -> list[ActionEvent]:
    actor = Actor(id="key:acct", tier=Tier.VERIFIED, scopes=frozenset({"book"}))
    payload = json.loads(BODY)
    return [
        ActionEvent(
            capability=f"g{g}.c{c}.pay",
            actor=actor,
            amount=Money.parse("120.50 USD"),
            recipient="acme",
            network="eip155:1",
            payload=payload,
        )
        for g in range(count // 10)
        for c in range(6)
    ]


def _spread(events: Sequence[ActionEvent]) -> Sequence[ActionEvent]:
    """As many as the small policy knows, from the first to the last."""
    few = len(_events(FEW))
    return [events[place * (len(events) - 1) // (few - 1)] for place in range(few)]


def _driver(rules: Policy, events: Sequence[ActionEvent], requests: int) -> Callable[[], float]:
    asked = [events[(number * 7919) % len(events)] for number in range(requests)]
    assert all(rules.decide(event).authorized for event in events)
    return lambda: _timed(lambda: [rules.decide(event) for event in asked], requests)


def _first_sight(rules: Policy, events: Sequence[ActionEvent], requests: int) -> Callable[[], float]:
    """Finding the rules of a capability that was not asked for before."""
    names = [event.capability for event in events]
    asked = [names[(number * 7919) % len(names)] for number in range(requests)]
    return lambda: _timed(lambda: [rules._plan(name) for name in asked], requests)  # noqa: SLF001 (past what is kept)


def _timed(work: Callable[[], object], requests: int) -> float:
    before = time.process_time()
    work()
    return (time.process_time() - before) / requests * 1e6
