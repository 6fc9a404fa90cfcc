"""The compiled policy decides what a plain reading of the rules decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.grammar.capability import matches
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.policy.compiled import compile_policy

PATTERNS = ["pay.*", "pay.out", "*.out", "**", "ship.*", "pay.**"]
CONDITIONS: list[dict[str, Any]] = [
    {"recipient": {"in": ["acme", "globex"]}},
    {"recipient": {"ne": "acme"}},
    {"amount": {"gte": "5 USD"}},
    {"amount": {"lt": "7 EUR"}},
    {"payload.n": {"gt": "3"}},
    {"payload.n": {"exists": "false"}},
    {"recipient": {"eq": "acme"}, "amount": {"gt": "4 USD"}},
]
WHEN = st.none() | st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3)


def rules(kind: str) -> st.SearchStrategy[list[SimpleNamespace]]:
    common: dict[str, st.SearchStrategy[Any]] = {"capability": st.sampled_from(PATTERNS), "when": WHEN}
    demands: dict[str, st.SearchStrategy[Any]] = {
        "identity": st.sampled_from([None, "token", "verified"]),
        "scopes": st.sampled_from([(), ("a",), ("a", "b")]),
        "max_amount": st.sampled_from([None, "5 USD", "6 EUR"]),
    }
    fields = common | (demands if kind == "allow" else {})
    return st.lists(st.fixed_dictionaries(fields), max_size=4).map(
        lambda made: [SimpleNamespace(id=f"{kind}-{n}", line=n, reason=None, **one) for n, one in enumerate(made)],
    )


ACTORS = st.builds(
    lambda tier, scopes: Actor(id="key:x", tier=tier, scopes=frozenset(scopes) if tier else frozenset()),
    st.sampled_from(list(Tier)),
    st.sampled_from([(), ("a",), ("a", "b")]),
)
EVENTS = st.builds(
    lambda capability, actor, amount, recipient, payload: ActionEvent(
        capability=capability,
        actor=actor,
        amount=None if amount is None else Money.parse(amount),
        recipient=recipient,
        payload=payload,
    ),
    st.sampled_from(["pay.out", "pay.in", "ship.out", "pay", "pay.out.eu"]),
    ACTORS,
    st.sampled_from([None, "0 USD", "5 USD", "5.01 USD", "6 EUR", "8 EUR"]),
    st.sampled_from([None, "acme", "globex", "evil"]),
    st.sampled_from([{}, {"n": 3}, {"n": 4}, {"n": None}, {"n": "x"}]),
)


def judged(field: str, operator: str, value: Any, event: ActionEvent) -> bool | None:
    """A field's test: true, false, or `None` for what cannot be judged."""
    if field == "amount":
        money, bound = event.amount, Money.parse(value)
        if money is None:
            return False
        if money.currency != bound.currency:
            return None
        over = money.minor - bound.minor
        return {"gte": over >= 0, "lt": over < 0, "gt": over > 0}[operator]
    found = event.recipient if field == "recipient" else event.payload.get("n")
    if operator == "exists":
        return (found is not None) is (value == "true")
    if found is None:
        return False
    if operator == "gt":
        return found > int(value) if isinstance(found, int) else None
    if operator == "in":
        return found in value
    return bool(found == value) is (operator == "eq")


def condition(when: Any, event: ActionEvent) -> bool | None:
    if when is None:
        return True
    alternatives = []
    for fields in when:
        tests = [(field, one, value) for field, has in fields.items() for one, value in has.items()]
        parts = [judged(*test, event) for test in tests]
        alternatives.append(False if False in parts else None if None in parts else True)
    return True if True in alternatives else None if None in alternatives else False


def satisfied(rule: Any, event: ActionEvent) -> bool:
    if rule.identity is not None and event.actor.tier < Tier.parse(rule.identity):
        return False
    if not set(rule.scopes) <= event.actor.scopes or condition(rule.when, event) is not True:
        return False
    if rule.max_amount is None:
        return True
    cap = Money.parse(rule.max_amount)
    return event.amount is not None and event.amount.currency == cap.currency and event.amount.minor <= cap.minor


@given(rules("allow"), rules("deny"), EVENTS)
def test_the_compiled_policy_agrees_with_a_plain_reading(allow: Any, deny: Any, event: ActionEvent) -> None:
    config: Any = SimpleNamespace(rules=SimpleNamespace(allow=allow, deny=deny), assets={})
    policy = compile_policy(config)
    verdict = policy.decide(event)

    denies = [condition(rule.when, event) for rule in deny if matches(rule.capability, event.capability)]
    covering = [rule for rule in allow if matches(rule.capability, event.capability)]
    if True in denies:
        assert verdict.code == "policy.denied"
    elif None in denies:
        assert verdict.code in {"currency.mismatch", "amount.unresolvable"}
    elif any(satisfied(rule, event) for rule in covering):
        assert verdict.code == "policy.allowed"
        assert verdict.rule == next(rule.id for rule in covering if satisfied(rule, event))
    else:
        assert not verdict.authorized
        assert verdict.code not in {"policy.denied", "policy.allowed"}
        assert verdict.code == "policy.unmatched" or covering
    assert verdict.authorized == (verdict.code == "policy.allowed")

    early = policy.may_refuse_early(event.capability, event.actor)
    if early is not None:
        assert not verdict.authorized
        if True not in denies and None not in denies:
            assert early == verdict
    if not policy.reads_payload(event.capability):
        without = ActionEvent(
            capability=event.capability,
            actor=event.actor,
            amount=event.amount,
            recipient=event.recipient,
        )
        assert policy.decide(without) == verdict
