"""A token that only its issuer can read is as good as its issuer says, for a while."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.api_keys import ApiKeys
from afmiddleware.identity.binding import Proofs, Shown
from afmiddleware.identity.certificate import ClientCertificate
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.introspection import Asking, Introspection
from afmiddleware.identity.needs import NeedIntrospection, NeedKey
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.identity.revocations import Revocations
from afmiddleware.model.revocation import ANY_TIME, Revocation
from afmiddleware.model.tier import Tier
from afmiddleware.testing import FrozenClock
from tests.unit.identity.conftest import FREE, Timer, request, settled

ISSUER, API = "https://as.example.com", "https://api.example.com"
TOKEN = "opaque-Zq7Zq7Zq7"
CLOCK = FrozenClock()
NOW = CLOCK() // 1_000_000
GOOD = {"active": True, "sub": "agent-1", "aud": API, "exp": NOW + 300, "scope": "book pay", "client_id": "c-1"}


def introspection(timer: Timer | None = None, **settings: Any) -> Introspection:
    asking = Asking(issuer=ISSUER, audience=API, **settings)
    return Introspection(asking, timer or Timer(), FREE, proofs=Proofs(Origins([API])))


def ask(answer: Any, checks: Introspection | None = None, token: str = TOKEN, now: int = CLOCK(), **shown: Any) -> Any:
    return settled((checks or introspection()).check(token, now, Shown(**shown)), answer)[0]


def test_a_good_token_is_an_actor_of_its_issuer():
    found = ask(GOOD)
    assert isinstance(found, Ok)
    actor = found.actor
    # The same caller with a signed token of the same issuer is the same actor, with the same limits.
    assert (actor.id, actor.tier, actor.proof) == (f"jwt:{ISSUER}|agent-1", Tier.TOKEN, "bearer")
    assert actor.scopes == {"book", "pay"}


def test_a_client_that_acts_for_itself_is_its_own_subject():
    answer = {name: value for name, value in GOOD.items() if name != "sub"}
    assert ask(answer).actor.account == "c-1"


def test_a_good_answer_is_believed_for_half_a_minute():
    checks = introspection(timer := Timer())
    assert isinstance(ask(GOOD, checks), Ok)
    timer.seconds = 29.9
    assert isinstance(settled(checks.check(TOKEN, CLOCK()))[0], Ok)
    timer.seconds = 30
    _, asked = settled(checks.check(TOKEN, CLOCK()), GOOD)
    assert asked == [NeedIntrospection(TOKEN, seen=True)]


def test_a_remembered_token_ends_in_time():
    checks = introspection()
    assert isinstance(ask({**GOOD, "exp": NOW + 5}, checks), Ok)
    end = CLOCK() + 15_000_000
    assert isinstance(settled(checks.check(TOKEN, end - 1))[0], Ok)
    assert isinstance(settled(checks.check(TOKEN, end), {"active": False})[0], Invalid)


def test_a_token_without_an_end_is_asked_for_again():
    checks = introspection()
    answer = {name: value for name, value in GOOD.items() if name != "exp"}
    assert isinstance(ask(answer, checks), Ok)


def test_a_token_that_is_not_active_is_a_guess_and_not_asked_for_at_once():
    checks = introspection(timer := Timer())
    refused = Invalid("a token that its issuer does not know", guess=True)
    assert ask({"active": False}, checks) == refused
    timer.seconds = 4.9
    assert settled(checks.check(TOKEN, CLOCK()))[0] == refused
    timer.seconds = 5
    assert isinstance(ask(GOOD, checks), Ok)


BAD: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://other.example.com"},
    "no audience": {"aud": None},
    "audiences of others": {"aud": ["https://other.example.com"]},
    "another issuer": {"iss": "https://evil.example.com"},
    "expired": {"exp": NOW - 11},
    "an end that is text": {"exp": "tomorrow"},
    "not yet": {"nbf": NOW + 60},
    "no subject": {"sub": None, "client_id": None},
    "a subject that is a number": {"sub": 7},
    "a subject with a line break": {"sub": "a\nb"},
    "scopes that are a list": {"scope": ["a"]},
    "a chain that is none": {"act": "agent"},
    "bound to a key": {"cnf": {"jkt": "x"}},
    "bound to a certificate": {"cnf": {"x5t#S256": "x"}},
    "bound in another way": {"cnf": {"jwk": {}}},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_an_active_token_that_is_not_for_us(change):
    found = ask(GOOD | change)
    assert isinstance(found, Invalid)
    assert not found.guess


def test_one_of_several_audiences_is_enough():
    assert isinstance(ask({**GOOD, "aud": ["https://other.example.com", API]}), Ok)


@pytest.mark.parametrize("answer", [{}, {"active": "true"}, {"active": 1}, {"active": None}, [], None, "yes"])
def test_an_answer_that_is_none_is_an_outage(answer):
    assert isinstance(ask(answer), Unavailable)


def test_an_outage_is_not_remembered():
    checks = introspection()
    assert ask(IdentityUnavailableError("down", retry_after=7), checks) == Unavailable("down", 7)
    assert isinstance(ask(GOOD, checks), Ok)


def test_a_bound_token_needs_its_key():
    shown = ClientCertificate(thumbprint="A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")
    bound = {**GOOD, "cnf": {"x5t#S256": shown.thumbprint}}
    checks = introspection(binding="mtls")
    assert ask(bound, checks, certificate=shown).actor.proof == "possession"
    assert isinstance(settled(checks.check(TOKEN, CLOCK()))[0], Invalid)
    assert isinstance(ask(GOOD, introspection(binding="mtls"), certificate=shown), Invalid)


def test_what_was_taken_back_is_not_good_whatever_the_issuer_says():
    checks = introspection()
    checks._revoked = Revocations(Timer())
    checks._revoked.take([Revocation(kind="sub", issuer=ISSUER, name="agent-1", before=ANY_TIME, until=ANY_TIME)])
    assert ask(GOOD, checks) == Invalid("revoked")


def test_the_need_does_not_tell_the_token():
    assert TOKEN not in repr(NeedIntrospection(TOKEN))
    assert TOKEN not in repr(list(introspection()._good.items()))


def test_a_token_is_no_key_and_a_key_no_token():
    keys = ApiKeys(Timer(), FREE, imported=True)
    both = Authenticators(keys, b"x-api-key", None, introspection=introspection())
    facts = request((b"authorization", f"Bearer {TOKEN}".encode()))
    found, asked = settled(both.identify(facts, CLOCK()), None, GOOD)
    assert isinstance(found, Ok)
    assert [type(need) for need in asked] == [NeedKey, NeedIntrospection]
    alone = Authenticators(None, b"x-api-key", None, introspection=introspection())
    assert isinstance(settled(alone.identify(facts, CLOCK()), GOOD)[0], Ok)
    key = request((b"authorization", b"Bearer afk_live_0000000000_x"))
    assert settled(alone.identify(key, CLOCK()))[0] == Invalid("an API key, and API keys are not configured")
