"""An explanation shows what was seen: cut, escaped, and not at all where it is hidden."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from afmiddleware.errors import GrammarError
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE
from afmiddleware.model.limit import Balance, Limit, Unit, Window
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.policy.compiled import Policy
from afmiddleware.policy.conditions import Names, compile_when
from afmiddleware.policy.explain import Explanation, explain, stands
from afmiddleware.policy.rules import amount_failure, compile_rule
from afmiddleware.policy.values import compile_compare
from tests.unit.policy.test_language import event, policy, rule


def told(when: Any, payload: Any, **parts: Any) -> Explanation:
    rules = policy([rule(when=when)])
    made = ActionEvent(capability="payments.transfer", actor=Actor(id="key:a"), payload=payload)
    return explain(rules, made, 0, **parts)


def test_values_of_the_payload_are_hidden_where_that_is_said() -> None:
    when = {"payload.card": {"eq": "4111"}, "payload.name": {"eq": "x"}, "payload.none": {"exists": "false"}}
    found = told(when, {"card": "4242", "name": "y"}, hidden=lambda field: field == "payload.card")
    assert [one.seen for one in found.rules[0].when[0]] == ["(redacted)", "y", "(absent)"]
    shown = told(when, {"card": "4242", "name": "y"})
    assert [one.seen for one in shown.rules[0].when[0]] == ["(redacted)", "(redacted)", "(absent)"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (True, "true"),
        (False, "false"),
        (["a", 1], "a, 1"),
        ("a\x1b[31m", r"a\x1b[31m"),
        ("x" * 120, "x" * 120),
        ("x" * 121, "x" * 120 + "... (121 characters)"),
    ],
)
def test_what_is_shown_of_a_value(value: object, seen: str) -> None:
    found = told({"payload.v": {"ne": "x"}}, {"v": value}, hidden=lambda _field: False)
    assert found.rules[0].when[0][0].seen == seen


def test_what_nothing_can_be_compiled_of() -> None:
    with pytest.raises(GrammarError, match="at least one field"):
        compile_when([], Names())
    with pytest.raises(GrammarError, match="need a list"):
        compile_when([{"actor.tier": {"in": "token"}}], Names())
    with pytest.raises(GrammarError, match="no operator 'contains'"):
        compile_when([{"actor.tier": {"contains": "token"}}], Names())
    with pytest.raises(GrammarError, match="not a comparison"):
        compile_compare("in")


def test_a_rule_without_demands_of_the_amount_never_fails_for_it() -> None:
    assert amount_failure(compile_rule(rule(), "allow", Names()), event("5 USD")) is None


def test_an_explanation_of_a_currency_demand_tells_the_two_apart() -> None:
    found = explain(policy([rule(currency=["USD", "EUR"], max_amount="5 USD")]), event("6 EUR"), 0)
    assert [(one.name, one.met) for one in found.rules[0].demands] == [("currency", True), ("max_amount", False)]
    assert found.verdict.code == "currency.mismatch"
    without = explain(policy([rule(max_amount="5 USD")]), event(), 0)
    assert (without.verdict.code, without.rules[0].demands[0].seen) == (AMOUNT_UNRESOLVABLE, "(absent)")


@pytest.mark.parametrize(
    ("field", "operators", "shown"),
    [
        ("actor.tier", {"gte": "token"}, "token"),
        ("actor.roles", {"contains": "ops"}, "dev, ops"),
        ("actor.depth", {"gt": "0"}, "2"),
        ("risk", {"gte": "low"}, "high"),
        ("amount", {"gt": "1 USD"}, "5.00 USD"),
        ("currency", {"eq": "USD"}, "USD"),
        ("network", {"eq": "x"}, "(absent)"),
        ("time", {"in": ["office"]}, "1970-01-01T00:00:00Z"),
    ],
)
def test_what_is_shown_of_a_field(field: str, operators: Any, shown: str) -> None:
    actor = Actor(id="key:a", tier=Tier.TOKEN, roles=frozenset({"ops", "dev"}), depth=2)
    found = explain(policy([rule(when={field: operators})]), event("5 USD", actor=actor, risk="high"), 0)
    assert found.rules[0].when[0][0].seen == shown
    assert explain(policy([rule(when={"risk": {"eq": "low"}})]), event(), 0).rules[0].when[0][0].seen == "(absent)"


def test_roles_that_an_actor_has_not_are_shown_as_absent() -> None:
    found = told({"actor.roles": {"contains": "ops"}}, {})
    assert (found.rules[0].when[0][0].seen, found.rules[0].outcome) == ("(absent)", "condition false")


def test_a_policy_that_names_nothing_explains_its_conditions() -> None:
    made = compile_rule(rule(when={"amount": {"gt": "1 USD"}}), "allow", Names())
    found = explain(Policy([made], ()), event("5 USD"), 0)
    assert [one.holds for one in found.rules[0].when[0]] == [True]


def test_a_policy_without_rules_explains_the_default() -> None:
    assert explain(Policy((), ()), event(), 0).rules == ()


def test_what_costs_nothing_asks_nothing_of_a_budget() -> None:
    budget = Limit(name="daily", unit=Unit.SPEND, cap=500, window=Window("day"), currency="USD", exponent=2)
    [stand] = stands([Balance(budget, 500, 0)], event())
    assert (stand.asked, stand.used, stand.fits) == ("0.00 USD", "5.00 USD", True)
    [stand] = stands([Balance(budget, 500, 0)], event("0.01 USD"))
    assert (stand.asked, stand.fits) == ("0.01 USD", False)


def test_an_explanation_of_what_is_not_there_says_so() -> None:
    demanding = policy([rule(scopes=["pay"], roles=["clerk"], currency=["USD"])])
    found = explain(demanding, event("6 EUR", actor=Actor(id="key:a", tier=Tier.TOKEN)), 0)
    assert [(one.name, one.seen, one.met) for one in found.rules[0].demands] == [
        ("scopes", "(absent)", False),
        ("roles", "(absent)", False),
        ("currency", "6.00 EUR", False),
    ]
    without = explain(demanding, event(), 0).rules[0].demands[-1]
    assert (without.name, without.seen, without.met) == ("currency", "(absent)", False)


def test_money_with_other_digits_is_in_another_currency() -> None:
    capped = policy([rule(max_amount="5 USD")])
    for digits, code in ((0, "currency.mismatch"), (2, "policy.allowed"), (3, "currency.mismatch")):
        paid = ActionEvent(capability="payments.transfer", actor=Actor(id="key:a"), amount=Money(4, "USD", digits))
        assert capped.decide(paid, 0).code == code


@pytest.mark.parametrize(
    "when",
    [
        {"amount": {"gt": "5 USD"}},
        {"risk": {"eq": "high"}},
        {"recipient": {"eq": "x"}},
        {"time": {"in": "office"}},
        {"actor.roles": {"contains": "x"}},
        {"actor.tier": {"in": ["verified"]}},
        {"payload.a": {"eq": "x"}},
        {"amount": {"gt": "5 USD"}, "recipient": {"eq": "x"}},
        [{"amount": {"gt": "5 USD"}}, {"recipient": {"eq": "x"}}],
    ],
    ids=str,
)
def test_what_does_not_hold_is_told_from_what_cannot_be_judged(when: Any) -> None:
    night = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1_000_000
    found = explain(policy([rule(when=when)]), event(), night).rules[0]
    assert found.outcome == "condition false"
    assert {one.holds for conditions in found.when for one in conditions} == {False}


@pytest.mark.parametrize("digits", [0, 3])
def test_a_threshold_cannot_be_judged_of_money_with_other_digits(digits: int) -> None:
    paid = ActionEvent(capability="payments.transfer", actor=Actor(id="key:a"), amount=Money(1, "USD", digits))
    found = explain(policy([rule(when={"amount": {"lt": "5 USD"}})]), paid, 0).rules[0]
    assert (found.outcome, found.when[0][0].holds) == ("cannot be judged", None)
