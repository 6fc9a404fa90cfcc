"""The compiled policy decides what a plain reading of the rules decides."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.config.conditions import OPERATORS, PAYLOAD_OPERATORS
from afmiddleware.grammar.lists import make_words
from afmiddleware.grammar.schedules import make_schedule
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.number import Number
from afmiddleware.model.tier import Tier
from afmiddleware.policy.actors import ActorSet
from afmiddleware.policy.compiled import Policy, compile_policy
from afmiddleware.policy.explain import explain
from tests.properties import plain_policy

ADDRESS = "0xAbCdEf0000000000000000000000000000000001"
LISTS: dict[str, tuple[list[str], str]] = {
    "some": (["acme", "/a/b", "7", "ops", "USD"], ""),
    "lower": (["Acme", "/A/B"], "lower"),
    "payees": ([ADDRESS], "evm"),
    "none": ([], ""),
}
SCHEDULES: dict[str, Any] = {
    "office": (["Mon,Tue,Wed,Thu,Fri 09:00-17:00"], [], "Europe/Amsterdam"),
    "night": (["daily 22:00-06:00"], [("2026-11-24", "2026-11-25")], "UTC"),
    "holidays": ([], [("2026-11-23", "2026-11-24")], "Pacific/Auckland"),
}
PATTERNS = ["pay.*", "pay.out", "*.out", "**", "ship.*", "pay.**", "p*.o*"]
TEXTS = ["acme", "Acme", "/a/b", "/a/b/../c", ADDRESS, ADDRESS.lower(), "7", "x" * 4097]
VALUES: list[Any] = [
    *TEXTS,
    7,
    0,
    True,
    False,
    Number("7.0"),
    Number("12.50"),
    ["acme", {"x": "7"}],
    {"x": "acme"},
    None,
]
FIELDS = [*OPERATORS, "payload.n", "payload.m.n"]
FROZEN = "key:frozen"


def literal(draw: random.Random, field: str, operator: str) -> Any:
    if operator == "exists":
        return draw.choice(["true", "false"])
    if field == "time":
        return draw.choice([*SCHEDULES, [*SCHEDULES][:2]])
    words = {
        "amount": ["0 USD", "5 USD", "6 EUR"],
        "actor.tier": ["anonymous", "token", "verified"],
        "risk": plain_policy.LEVELS,
        "actor.depth": ["0", "1", "2"],
        "actor.roles": ["ops", "admin"],
        "actor.scopes": ["a", "b"],
    }.get(field, ["acme", "/a/b", "7", "12.5", "true", "USD"])
    if operator in {"in", "not_in"}:
        if field not in {"risk", "actor.tier", "actor.depth"} and draw.random() < 0.6:
            return "$" + draw.choice(["some", "none"] if field in {"actor.roles", "actor.scopes"} else [*LISTS])
        return draw.sample(words, min(2, len(words)))
    if operator in {"gt", "gte", "lt", "lte"} and field.startswith("payload"):
        return draw.choice(["0", "7", "12.5"])
    if operator == "matches":
        return draw.choice(["[a-z]+", "/a(/b)?", "x*", "0x[0-9a-f]{40}"])
    return draw.choice(["/a", "/a/b", "acme"] if operator == "under" else words)


def condition(draw: random.Random) -> dict[str, dict[str, Any]]:
    fields: dict[str, dict[str, Any]] = {}
    for _ in range(draw.choice([1, 1, 2])):
        field = draw.choice(FIELDS)
        operator = draw.choice(OPERATORS.get(field, PAYLOAD_OPERATORS))
        fields[field] = {operator: literal(draw, field, operator)}
    return fields


def rule(draw: random.Random, kind: str, place: int) -> SimpleNamespace:
    unconditional = {"deny": 0.05, "require_approval": 0.1, "allow": 0.6}[kind]
    made: dict[str, Any] = {
        "id": f"{kind}-{place}",
        "line": place,
        "reason": None,
        "capability": draw.choice(PATTERNS),
        "when": None if draw.random() < unconditional else [condition(draw) for _ in range(draw.choice([1, 1, 2]))],
        "observe": 0 if kind == "allow" else draw.choice([0, 0, 0, 5_000, 10_000]),
        "identity": None,
        "scopes": (),
        "roles": (),
        "currency": (),
        "max_amount": None,
        "approval": "default",
        "applies_to": draw.choice(["all"] * 8 + ["agents", "proven_agents"]),
    }
    if kind == "allow":
        made |= {
            "identity": draw.choice([None, None, "token", "verified"]),
            "scopes": draw.choice([(), (), (), ("a",), ("a", "b")]),
            "roles": draw.choice([(), (), (), ("ops",)]),
            "currency": draw.choice([(), (), (), ("USD",), ("USD", "EUR")]),
        }
        caps = ["5 USD", "6 EUR"] if not made["currency"] else ["5 USD"]
        made["max_amount"] = draw.choice([None, None, *caps])
    return SimpleNamespace(**made)


def situation(draw: random.Random) -> tuple[Any, Policy, ActionEvent, int]:
    """Rules, the same compiled, an event and a time."""
    many = {
        "deny": draw.choice([0, 1, 2]),
        "require_approval": draw.choice([0, 0, 1, 2]),
        "allow": draw.choice([0, 1, 2, 3]),
    }
    made = {kind: [rule(draw, kind, place) for place in range(count)] for kind, count in many.items()}
    levels = draw.sample(plain_policy.LEVELS, draw.choice([0, 0, 1, 3]))
    risk = {level: draw.choice(["deny", "require_approval", "warn"]) for level in levels}
    rules = SimpleNamespace(**made, risk=risk)
    config: Any = SimpleNamespace(
        rules=rules,
        assets={},
        lists={name: make_words(*entry) for name, entry in LISTS.items()},
        schedules={name: make_schedule(*entry) for name, entry in SCHEDULES.items()},
        frozen=ActorSet([FROZEN]),
    )
    actor = Actor(
        id=draw.choice([FROZEN, *(f"key:{name}" for name in "abcdefghijkl")]),
        tier=draw.choice([Tier.ANONYMOUS, Tier.TOKEN, Tier.VERIFIED, Tier.VERIFIED]),
        scopes=frozenset(draw.choice([(), ("a",), ("a", "b")])),
        roles=frozenset(draw.choice([(), ("ops",), ("ops", "admin")])),
        tenant=draw.choice(["", "acme", "7"]),
        depth=draw.choice([0, 1, 2]),
        proof=draw.choice(["bearer", "bearer", "session", "possession"]),
        agent=draw.choice(["", "", "", "https://agent.example"]),
        marked=draw.choice([False, False, True]),
    )
    money = draw.choice([None, "0 USD", "5 USD", "5.01 USD", "6 EUR", "8 EUR"])
    event = ActionEvent(
        capability=draw.choice(["pay.out", "pay.out", "pay.in", "ship.out", "pay", "pay.out.eu"]),
        actor=actor,
        amount=None if money is None else Money.parse(money),
        risk=draw.choice([None, *plain_policy.LEVELS]),
        environment=draw.choice(["", "acme"]),
        method=draw.choice(["", "acme"]),
        route=draw.choice(["", "/a/b"]),
        payload={"n": draw.choice(VALUES), "m": {"n": draw.choice(VALUES)}},
        **{name: draw.choice([None, *TEXTS]) for name in ("resource", "recipient", "category", "network")},
    )
    # A fortnight around the closed days, minutes apart.
    now = (1_763_856_000 + 365 * 86_400 + draw.randrange(0, 14 * 24 * 60) * 60 - 7 * 86_400) * 1_000_000
    return rules, compile_policy(config), event, now


def agree(draw: random.Random, seen: Counter[str]) -> None:
    rules, policy, event, now = situation(draw)
    verdict = policy.decide(event, now)
    allowed, code, name = plain_policy.decide(rules, LISTS, SCHEDULES, [FROZEN], event, now, seen)
    seen[f"code {verdict.code}"] += 1
    seen.update(
        f"{one.applies_to} {kind}"
        for kind in ("deny", "require_approval", "allow")
        for one in plain_policy.covered(rules, kind, event)
    )
    seen[f"verdict {code}"] += 1
    assert verdict.authorized is allowed
    if code == "doubt":
        assert verdict.code in {"currency.mismatch", "amount.unresolvable"}
    elif code == "no rule":
        why, alone = plain_policy.reasons(rules, LISTS, SCHEDULES, event, now)
        assert verdict.code in (why if alone else why | {"policy.unmatched"})
    else:
        assert verdict.code == code
    if code != "no rule":
        assert verdict.rule == name

    early = policy.may_refuse_early(event.capability, event.actor)
    assert early is None or not allowed
    assert explain(policy, event, now).verdict == verdict
    if not policy.reads_payload(event.capability):
        bare = ActionEvent(**{field: getattr(event, field) for field in event.__struct_fields__ if field != "payload"})
        assert policy.decide(bare, now) == verdict


@given(st.randoms(use_true_random=False))
def test_the_compiled_policy_agrees_with_a_plain_reading(draw: random.Random) -> None:
    agree(draw, Counter())


ROUNDS = 4000
CODES = (
    "policy.allowed",
    "policy.denied",
    "policy.unmatched",
    "approval.required",
    "actor.frozen",
    "identity.required",
    "identity.tier",
    "identity.scope",
    "amount.over_action_cap",
    "amount.unresolvable",
    "currency.mismatch",
)


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    counted: Counter[str] = Counter()
    draw = random.Random(20261121)
    for _ in range(ROUNDS):
        agree(draw, counted)
    return counted


@pytest.mark.parametrize("code", CODES)
def test_every_reason_code_of_the_policy_occurs(seen: Counter[str], code: str) -> None:
    assert seen[f"code {code}"] >= ROUNDS / 100


@pytest.mark.parametrize("word", ["policy.allowed", "policy.denied", "approval.required", "doubt", "no rule"])
def test_every_verdict_occurs(seen: Counter[str], word: str) -> None:
    assert seen[f"verdict {word}"] >= ROUNDS / 100


@pytest.mark.parametrize("operator", sorted({one for some in (*OPERATORS.values(), PAYLOAD_OPERATORS) for one in some}))
def test_every_operator_is_asked_and_holds_and_does_not(seen: Counter[str], operator: str) -> None:
    """Not only written in some rule: asked of an event that the rule covers."""
    found = [seen[f"{operator} {truth}"] for truth in (True, False, None)]
    assert sum(found) >= ROUNDS / 100
    assert min(found[:2]) >= ROUNDS / 400


@pytest.mark.parametrize("scope", ["agents", "proven_agents"])
@pytest.mark.parametrize("kind", ["deny", "require_approval", "allow"])
def test_rules_for_agents_apply(seen: Counter[str], scope: str, kind: str) -> None:
    assert seen[f"{scope} {kind}"] >= ROUNDS / 100
