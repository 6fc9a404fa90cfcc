"""For whom a rule is that is for agents: nobody gains by hiding, and nobody by saying that it is one."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware.config.load import load
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier
from afmiddleware.policy.compiled import compile_policy

CALLERS = {
    "person": Actor(id="app:a", tier=Tier.TOKEN, proof="session"),
    "person with marks": Actor(id="app:a", tier=Tier.TOKEN, proof="session", marked=True),
    "stranger": Actor(id="address:1.2.3.4/32"),
    "key": Actor(id="key:a", tier=Tier.TOKEN, proof="bearer"),
    "agent": Actor(id="wba:https://a", tier=Tier.VERIFIED, proof="possession", agent="a"),
    "acting for somebody": Actor(id="jwt:i|s", tier=Tier.VERIFIED, proof="bearer", agent="a", on_behalf_of="s"),
}
HEAD = "version: 1\nservice: s\nidentity: {from_app: true}\n"


def authorized(rules: str) -> set[str]:
    config: Any = load(f"{HEAD}rules: {rules}")
    policy = compile_policy(config)
    event = {name: ActionEvent(capability="a.b", actor=actor) for name, actor in CALLERS.items()}
    return {name for name, one in event.items() if policy.decide(one).authorized}


@pytest.mark.parametrize(
    ("rules", "who"),
    [
        ("{deny: [{capability: a.b, applies_to: agents}], allow: [a.b]}", {"person"}),
        ("{deny: [{capability: a.b, applies_to: proven_agents}], allow: [a.b]}", {"person", "person with marks"}),
        ("{deny: [{capability: a.b, applies_to: all}], allow: [a.b]}", set()),
        ("{require_approval: [{capability: a.b, applies_to: agents}], allow: [a.b]}", {"person"}),
        ("{allow: [{capability: a.b, applies_to: proven_agents}]}", {"agent", "acting for somebody"}),
        ("{allow: [{capability: a.b, applies_to: agents}]}", {"stranger", "key", "agent", "acting for somebody"}),
        (
            "{deny: [{capability: a.b, applies_to: agents, when: {actor.tier: verified}}], allow: [a.b]}",
            {"person", "person with marks", "stranger", "key"},
        ),
    ],
)
def test_for_whom_a_rule_is(rules: str, who: set[str]) -> None:
    assert authorized(rules) == who


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("stranger", "identity.required"),
        ("key", "identity.tier"),
        ("person", "identity.tier"),
        ("agent", "identity.scope"),
    ],
)
def test_who_is_no_proven_agent_is_told_so_before_its_scopes_are_looked_at(who: str, code: str) -> None:
    config: Any = load(f"{HEAD}rules: {{allow: [{{capability: a.b, applies_to: proven_agents, scopes: [b, a]}}]}}")
    refused = compile_policy(config).decide(ActionEvent(capability="a.b", actor=CALLERS[who]))
    assert (refused.code, refused.scopes) == (code, ("a", "b"))
