"""Taking the application's word for who is signed in, and telling people from agents by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from afmiddleware.identity.agents import Marks, is_person, marked
from afmiddleware.identity.app_user import FromApp, acquainted, signed_in
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from afmiddleware.model.actor import Actor
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.tier import Tier
from afmiddleware.plan import USUAL_MARKS

ALICE = SimpleNamespace(is_authenticated=True, id=7, username="alice")


def of(found: Identified, user: Any = ALICE, scopes: tuple[str, ...] = (), **settings: Any) -> Identified:
    return acquainted(FromApp(**settings), found, lambda: signed_in(user, scopes))


def test_a_signed_in_user_is_an_actor() -> None:
    found = of(Absent(), scopes=("book",))
    assert isinstance(found, Ok)
    assert found.actor == Actor(id="app:7", tier=Tier.TOKEN, proof="session", scopes=frozenset({"book"}), account="7")
    named = of(Absent(), id="username", tier=Tier.VERIFIED)
    assert isinstance(named, Ok)
    assert (named.actor.id, named.actor.tier) == ("app:alice", Tier.VERIFIED)


@pytest.mark.parametrize(
    "user",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(is_authenticated=False, id=7),
        SimpleNamespace(is_authenticated="yes", id=7),
        SimpleNamespace(is_authenticated=lambda: False, id=7),
    ],
)
def test_nobody_is_signed_in(user: Any) -> None:
    assert of(Absent(), user) == Absent()


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (SimpleNamespace(get_id=lambda: "a7", id=1), "a7"),
        (SimpleNamespace(pk=UUID(int=1)), str(UUID(int=1))),
        (SimpleNamespace(username="bob"), "bob"),
    ],
)
def test_what_names_a_user(user: Any, name: str) -> None:
    user.is_authenticated = lambda: True
    found = of(Absent(), user)
    assert isinstance(found, Ok)
    assert found.actor.id == f"app:{name}"


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 257, True, 1.5, None, ["a"]])
def test_a_user_that_cannot_be_named_is_not_taken_for_a_stranger(value: Any) -> None:
    assert isinstance(of(Absent(), SimpleNamespace(is_authenticated=True, id=value)), Unavailable)
    assert isinstance(of(Absent(), SimpleNamespace(is_authenticated=True, key=value), id="key"), Unavailable)


def test_a_credential_of_the_policy_stands_above_the_application() -> None:
    mine = Ok(Actor(id="key:acct", tier=Tier.TOKEN))
    bad = Invalid("expired")
    assert of(mine) is mine
    assert of(bad) is bad
    assert of(Unavailable("down")) == Unavailable("down")


def test_a_credential_that_only_the_application_knows_needs_its_word() -> None:
    foreign = Invalid("a bearer token, and no issuer is configured", foreign=True)
    assert isinstance(of(foreign), Ok)
    assert of(foreign, None) is foreign


def facts(*headers: tuple[bytes, bytes]) -> HttpFacts:
    return HttpFacts(method="GET", path="/", headers=headers)


BROWSER = (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36")
PERSON = Ok(Actor(id="app:7", tier=Tier.TOKEN, proof="session"))
MARKS = [
    (b"signature-agent", b'"https://chatgpt.com"'),
    (b"mcp-protocol-version", b"2026-07-28"),
    (b"agent-session", b"x"),
    (b"user-agent", b"Mozilla/5.0 (compatible; ChatGPT-User/1.0; +https://openai.com/bot)"),
    (b"user-agent", b"python-httpx/0.28.1"),
]


def seen(*headers: tuple[bytes, bytes], marks: Marks = USUAL_MARKS) -> Identified:
    return marked(PERSON, facts(*headers), marks)


def test_people_pass_and_everybody_else_is_judged() -> None:
    assert is_person(seen(BROWSER), "agents")
    assert is_person(seen(), "proven_agents")
    assert not is_person(seen(BROWSER), "all")
    for found in (Absent(), Invalid("x"), Unavailable("x"), Ok(Actor(id="key:a", tier=Tier.TOKEN, proof="bearer"))):
        assert marked(found, facts(*MARKS), USUAL_MARKS) is found
        assert not is_person(found, "agents")
        assert not is_person(found, "proven_agents")


@pytest.mark.parametrize("mark", MARKS)
def test_the_marks_of_an_agent(mark: tuple[bytes, bytes]) -> None:
    assert not is_person(seen(mark), "agents")
    assert is_person(seen(mark), "proven_agents")


def test_which_marks_are_looked_at_is_the_policys() -> None:
    mcp, httpx, house = MARKS[1], MARKS[4], (b"user-agent", b"Mozilla/5.0 House-Bot (v1.2)")
    for marks, agents in (
        (Marks(), [mcp, httpx]),
        (Marks(names=["house-bot (v1"]), [mcp, httpx, house]),
        (Marks(builtin=False, names=["house-bot"]), [mcp, house]),
        (Marks(builtin=False), [mcp]),
        (Marks(mcp=False), [httpx]),
    ):
        found = [mark for mark in (mcp, httpx, house) if not is_person(seen(mark, marks=marks), "agents")]
        assert found == agents
        # What only agents send is always a mark.
        assert not is_person(seen(MARKS[0], marks=marks), "agents")
