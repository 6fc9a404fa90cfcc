"""What is made of the rules of a file: what it reads and remembers, and which rules nothing can be made of."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware.assemble import assemble
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from tests.unit.policy.test_decide import event, policy, rule


def test_who_reads_the_payload() -> None:
    rules = policy(
        [rule("flights.*"), rule("a.b", when=[{"recipient": {"eq": "x"}}, {"payload.x": {"eq": "y"}}])],
        [rule("shell.*", when={"payload.command": {"contains": "rm"}})],
    )
    assert rules.reads_payload("shell.exec")
    assert rules.reads_payload("a.b")
    assert not rules.reads_payload("flights.book")
    assert not rules.reads_payload("none.such")


def test_plans_are_bounded() -> None:
    rules = policy([rule("**")])
    for number in range(10_000):
        assert rules.decide(event(capability=f"rpc.m{number}")).authorized
    assert len(rules._plans) <= 4096


BROKEN = {
    "unknown field": {"colour": {"eq": "red"}},
    "unknown operator": {"recipient": {"like": "a*"}},
    "operator of another kind": {"amount": {"contains": "5 USD"}},
    "not money": {"amount": {"gt": "many"}},
    "unknown currency": {"amount": {"gt": "5 XXZ"}},
    "in without a list": {"recipient": {"in": "acme"}},
    "not a number": {"payload.n": {"gt": "many"}},
    "not a tier": {"actor.tier": {"gte": "admin"}},
    "not a path": {"payload.a..b": {"eq": "x"}},
    "not true or false": {"recipient": {"exists": "maybe"}},
    "under dots": {"resource": {"under": "/a/../b"}},
    "no operator": {"recipient": {}},
    "set without contains": {"actor.roles": {"eq": "ops"}},
    "time": {"time": {"in": ["office"]}},
}


@pytest.mark.parametrize("condition", BROKEN.values(), ids=BROKEN.keys())
def test_conditions_that_cannot_be_compiled(condition: Any) -> None:
    with pytest.raises(ConfigError, match=r"line 7: deny rule 'payments\.\*'"):
        policy(deny=[rule(when=condition)])


def test_every_broken_rule_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        policy([rule("A"), rule(identity="king"), rule(max_amount="5")], [rule(when={"x": {"eq": "1"}})])
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("rules", [1, 3000])
def test_what_is_remembered_of_capabilities_is_bounded(rules, tmp_path):
    """Callers of `{method}` and `{tool}` routes choose capabilities, so memory must not grow with them."""
    allowed = ", ".join(f"a.r{number}" for number in range(rules))
    policy = assemble(load(f"version: 1\nservice: s\nrules: {{allow: [{allowed}]}}"), tmp_path)[0].policy
    kept = policy.matching("a.r0")
    for number in range(max(4096, 2 * rules) - 1):
        policy.matching(f"b.c{number}")
    assert policy.matching("a.r0") is kept
    policy.matching("b.one-more")
    again = policy.matching("a.r0")
    assert (again is kept, again.allows[0][0].id) == (False, "allow[1]")
