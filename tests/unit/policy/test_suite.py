"""Which of two policies' differences come first."""

from __future__ import annotations

from itertools import permutations

import pytest

from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.cases import CaseError
from afmiddleware.policy.suite import Case, compare, read_cases, word_of

ASSETS: dict[str, int] = {}
CODES = {"deny": "policy.denied", "require_approval": "approval.required", "allow": "policy.allowed"}


def test_what_opens_most_comes_first_and_what_opens_as_much_as_it_stands_in_the_file() -> None:
    pairs = sorted(permutations(CODES, 2), reverse=True)
    cases = [Case(name=str(place), event=ActionEvent(actor=Actor(id="a"), capability="a.b")) for place in range(6)]
    old, new = (
        iter([Verdict(authorized=word == "allow", code=CODES[word]) for word in words])
        for words in zip(*pairs, strict=True)
    )
    found = compare(cases, lambda _event, _now: next(old), lambda _event, _now: next(new), 0)
    assert [(word_of(one.old), word_of(one.new)) for one in found] == [
        ("deny", "allow"),
        ("require_approval", "allow"),
        ("deny", "require_approval"),
        ("require_approval", "deny"),
        ("allow", "require_approval"),
        ("allow", "deny"),
    ]
    assert [one.opens for one in found] == [True, True, False, False, False, False]


def test_newly_allowed_side_effects_come_first() -> None:
    """Before what is only read, and before what opens as much without being allowed."""
    words: list[tuple[str, str, str | None, str, str]] = [
        ("an approval", "POST", None, "deny", "require_approval"),
        ("read", "GET", None, "deny", "allow"),
        ("read for money", "GET", "5 USD", "deny", "allow"),
        ("approved no more", "POST", None, "require_approval", "allow"),
        ("anything", "", None, "deny", "allow"),
        ("closed", "GET", None, "allow", "deny"),
    ]
    actor = Actor(id="a")
    cases = [
        Case(
            name=name,
            event=ActionEvent(
                actor=actor, capability="a.b", method=method, amount=Money.parse(money) if money else None
            ),
        )
        for name, method, money, _, _ in words
    ]
    old, new = (
        iter([Verdict(authorized=word == "allow", code=CODES[word]) for word in column])
        for column in ([row[3] for row in words], [row[4] for row in words])
    )
    found = compare(cases, lambda _event, _now: next(old), lambda _event, _now: next(new), 0)
    names = [one.name for one in found]
    assert names == ["read for money", "anything", "approved no more", "read", "an approval", "closed"]
    assert [one.reads for one in found] == [False, False, False, True, False, True]


def test_a_case_that_is_wrong_says_which_it_is() -> None:
    with pytest.raises(
        CaseError, match=r"^case 1: the verdict is one of allow, deny, require_approval, not 'no'$"
    ) as told:
        read_cases([{"event": {"capability": "a.b"}, "expect": "no"}], ASSETS)
    assert told.value.place == 1
