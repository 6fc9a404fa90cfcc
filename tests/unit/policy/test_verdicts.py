"""What a verdict says beside its code: whose it is, and what is lacking."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from afmiddleware.policy.compiled import compile_policy
from tests.unit.policy.test_decide import ANONYMOUS, TOKEN, event, policy, rule, when


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


def test_a_refusal_names_the_scopes_or_the_roles_that_are_lacking() -> None:
    def refused(**demands: Any) -> tuple[str, tuple[str, ...]]:
        verdict = policy([rule(**demands)]).decide(event())
        return verdict.reason, verdict.scopes

    text = "payments.transfer needs the {}, which the caller has not."
    assert refused(scopes=["pay", "read", "buy"]) == (text.format("scope buy, pay"), ("buy", "pay", "read"))
    assert refused(roles=["ops", "cfo"], scopes=["read"]) == (text.format("role cfo"), ())
    assert refused(roles=["cfo"]) == (text.format("role cfo"), ())


def test_a_rule_that_observes_everybody_observes_strangers_too() -> None:
    anybody = rule("**")
    assert policy([anybody], [rule("**", id="new", observe=10_000)]).decide(event(ANONYMOUS)).flags == ("observed:new",)
    assert policy([anybody], [rule("**", id="new", observe=9_999)]).decide(event(ANONYMOUS)).code == "policy.denied"


def test_of_two_rules_that_came_as_near_the_first_is_named() -> None:
    unjudged, capped = rule(id="foreign", when=when(amount={"gt": "1 EUR"})), rule(id="capped", max_amount="5 EUR")
    for rules in ([unjudged, capped], [capped, unjudged]):
        assert policy(rules).decide(event(TOKEN, "3 USD")).rule == rules[0].id
