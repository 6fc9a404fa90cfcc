"""Which of two policies' differences come first."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.cases import CaseError
from afmiddleware.policy.suite import Case, compare, read_cases, word_of

ASSETS: dict[str, int] = {}
CODES = {"deny": "policy.denied", "require_approval": "approval.required", "allow": "policy.allowed"}


@pytest.mark.parametrize("backwards", [False, True])
def test_what_is_newly_allowed_comes_first_and_what_closes_most_last(backwards: bool) -> None:
    pairs = sorted(permutations(CODES, 2), reverse=backwards)
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


def test_another_reason_stands_between_what_opens_and_what_closes_as_it_stands_in_the_file() -> None:
    def verdict(code: str) -> Verdict:
        return Verdict(authorized=code == "policy.allowed", code=code)

    codes = [
        ("policy.denied", "policy.unmatched"),
        ("policy.allowed", "policy.denied"),
        ("policy.unmatched", "policy.denied"),
        ("policy.denied", "policy.allowed"),
    ]
    cases = [Case(name=str(place), event=ActionEvent(actor=Actor(id="a"), capability="a.b")) for place in range(4)]
    old, new = (iter([verdict(code) for code in side]) for side in zip(*codes, strict=True))
    found = compare(cases, lambda _event, _now: next(old), lambda _event, _now: next(new), 0)
    assert [one.name for one in found] == ["3", "0", "2", "1"]


@pytest.mark.parametrize(("told", "depth"), [({}, 0), ({"depth": "2"}, 2), ({"depth": 3}, 3)])
def test_the_depth_of_an_actor_is_a_whole_number(told: dict[str, Any], depth: int) -> None:
    event = {"capability": "a.b", "actor": {"id": "key:a", **told}}
    assert read_cases([{"event": event, "expect": "deny"}], ASSETS)[0].event.actor.depth == depth


@pytest.mark.parametrize("depth", ["-1", -1, "\u0663", "", 1.5, True, [1]])
def test_what_is_no_depth_of_an_actor_is_refused(depth: object) -> None:
    event = {"capability": "a.b", "actor": {"id": "key:a", "depth": depth}}
    with pytest.raises(CaseError, match=r"actor\.depth is a whole number"):
        read_cases([{"event": event, "expect": "deny"}], ASSETS)


def test_a_case_that_is_wrong_says_which_it_is() -> None:
    with pytest.raises(
        CaseError, match=r"^case 1: the verdict is one of allow, deny, require_approval, not 'no'$"
    ) as told:
        read_cases([{"event": {"capability": "a.b"}, "expect": "no"}], ASSETS)
    assert told.value.place == 1


def test_a_case_that_says_when_is_decided_for_then_by_both() -> None:
    asked: list[int] = []

    def decide(_event: ActionEvent, now: int) -> Verdict:
        asked.append(now)
        return Verdict(authorized=True, code="policy.allowed")

    event = ActionEvent(actor=Actor(id="a"), capability="a.b")
    assert compare([Case(name="then", event=event, now=5), Case(name="now", event=event)], decide, decide, 7) == []
    assert asked == [5, 5, 7, 7]
