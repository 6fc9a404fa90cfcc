"""What a verdict says for itself, and for how many a rule that observes only says it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from afmiddleware.policy.compiled import compile_policy
from afmiddleware.policy.rules import falls_on
from tests.unit.policy.test_decide import ANONYMOUS, event, policy, rule


def test_a_share_of_the_callers_is_as_large_as_it_says() -> None:
    drawn = [[falls_on(share, "rule", f"key:{number}") for number in range(30_000)] for share in (0, 1, 9_999, 10_000)]
    none, few, most, whole = map(sum, drawn)
    assert (none, whole) == (0, 30_000)
    assert 0 < few < 15
    assert 29_985 < most < 30_000


def test_a_verdict_says_which_rule_gave_it_unless_the_rule_says_it_itself() -> None:
    rules = SimpleNamespace(
        allow=[rule("payments.**", id="open")],
        deny=[rule("payments.wipe", id="wipe"), rule("payments.burn", reason="Nothing is burnt.")],
        require_approval=[
            rule("payments.large", id="large", approval="finance"),
            rule("payments.huge", reason="Ask the board.", approval="board"),
        ],
    )
    decided: Any = SimpleNamespace(rules=rules, assets={})
    told = {
        name: compile_policy(decided).decide(event(capability=f"payments.{name}")).reason
        for name in ("out", "wipe", "burn", "large", "huge")
    }
    assert told == {
        "out": "Rule open allows payments.out.",
        "wipe": "Rule wipe denies payments.wipe.",
        "burn": "Nothing is burnt.",
        "large": "payments.large needs an approval, by rule large.",
        "huge": "Ask the board.",
    }


def test_a_rule_that_observes_everybody_observes_strangers_too() -> None:
    anybody = rule("**")
    assert policy([anybody], [rule("**", id="new", observe=10_000)]).decide(event(ANONYMOUS)).flags == ("observed:new",)
    assert policy([anybody], [rule("**", id="new", observe=9_999)]).decide(event(ANONYMOUS)).code == "policy.denied"
