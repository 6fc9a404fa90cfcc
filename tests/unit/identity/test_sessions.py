"""Nobody gets a fresh budget by calling a session otherwise."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from msgspec.structs import replace

from afmiddleware.identity.outcome import Absent, Invalid, Ok, Unavailable
from afmiddleware.identity.sessions import Sessions
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, SESSION_INVALID
from afmiddleware.model.tier import Tier
from tests.unit.identity.conftest import request

NOW = 1_795_262_400_000_000
DAY = 86_400_000_000
ALICE, BOB = (Actor(id=f"key:{name}", tier=Tier.TOKEN, proof="bearer") for name in ("alice", "bob"))


def sign(message: bytes) -> bytes:
    return hmac.digest(b"k" * 32, message, hashlib.sha256)


SESSIONS = Sessions(sign)


def session(actor: Actor, *labels: str, sessions: Sessions = SESSIONS, now: int = NOW) -> str:
    found = sessions.within(Ok(actor), request(*[(b"agent-session", label.encode()) for label in labels]), now)
    return found.actor.session if isinstance(found, Ok) else found.code if isinstance(found, Invalid) else "?"


def test_a_minted_session_is_its_callers_alone():
    handle = SESSIONS.mint(ALICE, NOW, os.urandom)
    name = session(ALICE, handle.text)
    assert name.startswith("minted:")
    assert session(ALICE, handle.text, now=handle.ends - 1) == name
    assert session(ALICE, handle.text, now=handle.ends) == SESSION_INVALID
    assert session(BOB, handle.text) == SESSION_INVALID
    assert session(ALICE, SESSIONS.mint(ALICE, NOW, os.urandom).text) != name
    assert len(handle.text) <= 128


def test_a_handle_that_was_touched_is_forged():
    handle = SESSIONS.mint(ALICE, NOW, os.urandom).text
    for place in range(len("afs1."), len(handle)):
        for letter in "A_z.":
            if handle[place] != letter:
                assert session(ALICE, handle[:place] + letter + handle[place + 1 :]) == SESSION_INVALID
    others = Sessions(lambda message: hashlib.sha256(message).digest())
    assert session(ALICE, others.mint(ALICE, NOW, os.urandom).text) == SESSION_INVALID
    for text in ("afs1.", "afs1..", "afs1.a.b", handle + ".x", handle + "A", handle[:-1]):
        assert session(ALICE, text) == SESSION_INVALID


def test_whoever_names_none_has_one_for_the_window():
    first = session(ALICE)
    assert first == f"day:{NOW // DAY}"
    assert session(ALICE, now=NOW // DAY * DAY + DAY - 1) == first
    assert session(ALICE, now=NOW // DAY * DAY + DAY) != first
    assert session(ALICE, sessions=Sessions(sign, window="hour")) == f"hour:{NOW // (DAY // 24)}"
    assert session(ALICE, sessions=Sessions(sign, window="total")) == ""


def test_what_a_client_calls_a_session_is_a_label():
    assert {session(ALICE, f"my-session-{n}") for n in range(1000)} == {session(ALICE)}


@pytest.mark.parametrize("label", ["", "a b", "a" * 129, "é", "a,b", "a\x00"])
def test_a_label_is_a_plain_word(label):
    assert session(ALICE, label) == REQUEST_AMBIGUOUS


def test_there_is_one_session():
    assert session(ALICE, "a", "a") == REQUEST_AMBIGUOUS


def test_the_issuers_word_stands_above_a_handle():
    claimed = replace(ALICE, session="sid-1")
    handle = SESSIONS.mint(ALICE, NOW, os.urandom).text
    assert session(claimed) == "claim:sid-1"
    assert session(claimed, handle) == "claim:sid-1"
    assert session(claimed, handle[:-1]) == SESSION_INVALID
    minted = Sessions(sign, sources=("minted",))
    assert session(claimed, sessions=minted) == session(ALICE)
    assert session(claimed, handle, sessions=minted).startswith("minted:")
    # A claim that looks like a minted session is another one.
    assert session(replace(ALICE, session=session(ALICE, handle))) != session(ALICE, handle)


def test_handles_are_nobodys_where_none_are_minted():
    handle = SESSIONS.mint(ALICE, NOW, os.urandom).text
    assert session(ALICE, handle, sessions=Sessions(sign, sources=("claim",))) == SESSION_INVALID


def test_a_stranger_has_no_session():
    facts = request((b"agent-session", SESSIONS.mint(ALICE, NOW, os.urandom).text.encode()))
    found = SESSIONS.within(Absent(), facts, NOW)
    assert isinstance(found, Invalid)
    assert found.code == SESSION_INVALID
    assert SESSIONS.within(Absent(), request((b"agent-session", b"label")), NOW) == Absent()


@pytest.mark.parametrize("found", [Invalid("x"), Unavailable("y"), Absent()])
def test_what_is_no_caller_stays_what_it_is(found):
    assert SESSIONS.within(found, request(), NOW) == found


def test_where_nothing_counts_by_session_the_caller_is_left_as_it_is():
    plain = Sessions(sign, counted=False)
    found = Ok(replace(ALICE, session="sid-1"))
    assert plain.within(found, request(), NOW) is found
    assert session(BOB, SESSIONS.mint(ALICE, NOW, os.urandom).text, sessions=plain) == SESSION_INVALID
