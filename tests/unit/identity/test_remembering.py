"""What a token check asks for, and what it remembers: never longer than the token or its key is good."""

from __future__ import annotations

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.keyset import read_keyset
from afmiddleware.identity.needs import NeedKeySet
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.testing import mint_es256_issuer
from tests.unit.identity.conftest import Desk, settled

NOW = Desk().clock() // 1_000_000


def test_the_hot_path_asks_for_nothing(desk):
    text = desk.issuer.mint()
    for _ in range(2):
        assert isinstance(desk.check(text), Ok)


def test_keys_are_asked_for_when_there_are_none(desk):
    keys, desk.keys.now = desk.keys.now, None
    text = desk.issuer.mint()
    found, asked = settled(desk.tokens.check(text, desk.clock()), keys)
    assert isinstance(found, Ok)
    assert asked == [NeedKeySet(desk.issuer.issuer, "test-1")]


def test_keys_that_cannot_be_had_leave_it_open(desk):
    desk.keys.now = None
    found = desk.check(desk.issuer.mint(), IdentityUnavailableError("no keys", retry_after=7))
    assert found == Unavailable("no keys", 7)


def test_one_issuer_cannot_speak_for_another():
    desk = Desk()
    other = mint_es256_issuer("https://other.example.com", clock=desk.clock)
    forged = other.mint(iss=desk.issuer.issuer)
    assert isinstance(desk.check(forged), Invalid)


# What is remembered


def test_a_good_token_is_remembered_for_a_minute(desk):
    text = desk.issuer.mint()
    assert isinstance(desk.check(text), Ok)
    # Without its key, and under the same generation, only what is remembered is good.
    desk.keys.now = read_keyset({"keys": []}, ("ES256",), 1)
    desk.timer.seconds = 59.9
    assert isinstance(desk.check(text), Ok)
    desk.timer.seconds = 60.0
    assert isinstance(desk.check(text, desk.keys.now), Invalid)


def test_a_bad_token_is_not_remembered(desk):
    text = desk.issuer.mint(nbf=NOW + 60)
    assert isinstance(desk.check(text), Invalid)
    desk.clock.advance(60)
    assert isinstance(desk.check(text), Ok)


def test_a_remembered_token_ends_in_time(desk):
    text = desk.issuer.mint(exp=NOW + 20)
    assert isinstance(desk.check(text), Ok)
    desk.clock.advance(29.999999)
    assert isinstance(desk.check(text), Ok)
    desk.clock.advance(0.000001)
    assert isinstance(desk.check(text), Invalid)


def test_a_remembered_token_falls_with_its_key(desk):
    text = desk.issuer.mint()
    assert isinstance(desk.check(text), Ok)
    desk.keys.now = read_keyset({"keys": []}, ("ES256",), 2)
    assert isinstance(desk.check(text, desk.keys.now), Invalid)


def test_a_remembered_token_falls_when_its_keys_are_too_old(desk):
    text = desk.issuer.mint()
    assert isinstance(desk.check(text), Ok)
    desk.keys.now = None
    assert isinstance(desk.check(text, IdentityUnavailableError("too old")), Unavailable)


def test_a_remembered_token_is_another_when_one_bit_differs(desk):
    text = desk.issuer.mint()
    assert isinstance(desk.check(text), Ok)
    assert isinstance(desk.check(text[:-2] + ("AA" if text[-2:] != "AA" else "BA")), Invalid)
