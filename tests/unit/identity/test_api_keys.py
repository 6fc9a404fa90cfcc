"""API keys: what their text is made of, who they belong to, and when they stop."""

from __future__ import annotations

import re
import secrets
import sys
import zlib
from collections import Counter
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.identity.api_keys import ApiKeyRecord, ApiKeys, imported_id, imported_key, new_key
from afmiddleware.identity.needs import NeedKey
from afmiddleware.identity.outcome import Identified, Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier
from tests.unit.identity.conftest import FREE, Timer, settled

NOW = 1_795_262_400_000_000
TEXT, RECORD = new_key("acme", secrets.token_bytes, now=NOW, label="till 4", scopes=["book", "pay"])


def ask(text: str, *answers: Any, now: int = NOW, keys: ApiKeys | None = None) -> tuple[Identified, list[Any]]:
    return settled((keys or ApiKeys(Timer(), FREE)).check(text, now), *answers)


def checked(head: str) -> str:
    """`head` with the check digits that belong to it."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number, text = zlib.crc32(head.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        text = digits[digit] + text
    return head + text


def test_a_key_is_a_prefix_an_id_a_secret_and_a_check():
    assert re.fullmatch(r"afk_live_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", TEXT)
    assert checked(TEXT[:-6]) == TEXT


def test_the_record_knows_the_key_by_its_digest_only():
    assert msgspec.structs.asdict(RECORD) == {
        "id": TEXT[9:19],
        "digest": sha256(TEXT.encode()).digest(),
        "account": "acme",
        "label": "till 4",
        "scopes": ("book", "pay"),
        "created": NOW,
        "expires": 0,
        "revoked": 0,
        "begins": 0,
        "roles": (),
        "tenant": "",
        "agent": "",
        "networks": (),
        "rotated_to": "",
    }
    assert TEXT[20:] not in repr(RECORD)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_every_draw_makes_a_key_that_is_accepted(public, secret):
    text, record = new_key("acme", {8: public, 32: secret}.__getitem__, now=NOW)
    assert isinstance(ask(text, record)[0], Ok)


def test_other_secrets_make_other_keys():
    low = new_key("acme", {8: bytes(8), 32: bytes(32)}.__getitem__, now=NOW)[0]
    ends = {new_key("acme", {8: bytes(8), 32: bytes(31) + bytes([n])}.__getitem__, now=NOW)[0] for n in range(256)}
    starts = {new_key("acme", {8: bytes(8), 32: bytes([n]) + bytes(31)}.__getitem__, now=NOW)[0] for n in range(256)}
    assert len(ends | starts) == 511
    assert low in ends & starts


@pytest.mark.parametrize("account", ["", " acme", "a b", "a|b", "-a", "a" * 129, "a\n", "é", "a/b"])
def test_an_account_is_a_plain_name(account):
    with pytest.raises(ValueError, match="is not an account"):
        new_key(account, secrets.token_bytes, now=NOW)


@pytest.mark.parametrize("account", ["a", "0", "Acme-2_b.c@example.com+x", "a" * 128])
def test_accounts_that_are_plain_names(account):
    assert new_key(account, secrets.token_bytes, now=NOW)[1].account == account


def test_a_good_key_is_its_accounts_actor():
    assert ask(TEXT, RECORD)[0] == Ok(
        Actor(
            id="key:acme",
            tier=Tier.TOKEN,
            proof="bearer",
            scopes=frozenset({"book", "pay"}),
            account="acme",
            credential=f"afk:{RECORD.id}",
        ),
    )


def test_two_keys_of_an_account_are_one_actor():
    second, record = new_key("acme", secrets.token_bytes, now=NOW)
    one, two = ask(TEXT, RECORD)[0], ask(second, record)[0]
    assert isinstance(one, Ok)
    assert isinstance(two, Ok)
    assert one.actor.id == two.actor.id
    assert one.actor.credential != two.actor.credential


MALFORMED = {
    "wrong check digits": TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"),
    "two letters exchanged": TEXT[:30] + TEXT[31] + TEXT[30] + TEXT[32:] if TEXT[30] != TEXT[31] else "",
    "one letter changed": TEXT[:25] + ("a" if TEXT[25] != "a" else "b") + TEXT[26:],
    "another id": TEXT[:9] + ("a" if TEXT[9] != "a" else "b") + TEXT[10:],
    "one letter short": checked(TEXT[:-7]),
    "one letter more": checked(TEXT[:-6] + "a"),
    "the prefix alone": "afk_",
    "another environment": checked("afk_test_" + TEXT[9:-6]),
    "upper case": TEXT.upper(),
    "a line break": TEXT + "\n",
    "a space": TEXT + " ",
    "not ASCII": TEXT[:20] + "é" + TEXT[21:],
    "digits of another script": TEXT[:20] + "\u0663" + TEXT[21:],
    "a million letters": "afk_live_" + "a" * 1_000_000,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_key_is_refused_before_anything_is_looked_up(text):
    found, asked = ask(text)
    assert isinstance(found, Invalid)
    assert asked == []


@given(st.text(max_size=90) | st.from_regex(r"afk_live_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", fullmatch=True))
def test_no_text_makes_it_stumble(text):
    assert isinstance(ask(text)[0], Invalid)


STALE: dict[str, dict[str, Any]] = {
    "revoked": {"revoked": NOW},
    "revoked from a clock ahead of ours": {"revoked": NOW + 60_000_000},
    "expired long ago": {"expires": NOW - 1},
    "expired just now": {"expires": NOW},
    "of another key": {"digest": sha256(b"another").digest()},
    "without a digest": {"digest": b""},
    "of zeros": {"digest": bytes(32)},
}


@pytest.mark.parametrize("changes", STALE.values(), ids=STALE)
def test_a_record_that_lets_nobody_in(changes):
    found, asked = ask(TEXT, msgspec.structs.replace(RECORD, **changes))
    assert isinstance(found, Invalid)
    assert asked == [NeedKey(RECORD.id)]


def test_a_key_is_good_until_it_expires():
    assert isinstance(ask(TEXT, msgspec.structs.replace(RECORD, expires=NOW + 1))[0], Ok)


def test_an_unknown_key_costs_what_a_wrong_one_costs():
    wrong, work = profiled(msgspec.structs.replace(RECORD, digest=sha256(b"another").digest()))
    unknown, other_work = profiled(None)
    assert unknown == wrong
    assert other_work == work
    assert work["compare_digest"] == 1


def profiled(record: ApiKeyRecord | None) -> tuple[Identified, Counter[str]]:
    """What a key comes to, and how often each function in C was called for it."""
    calls: Counter[str] = Counter()
    flow = ApiKeys(Timer(), FREE).check(TEXT, NOW)
    next(flow)
    sys.setprofile(lambda _frame, event, called: calls.update([called.__name__] if event == "c_call" else []))
    try:
        with pytest.raises(StopIteration) as stop:
            flow.send(record)
    finally:
        sys.setprofile(None)
    return stop.value.value, calls


def test_what_is_wrong_is_told_without_the_secret():
    for answer in (None, msgspec.structs.replace(RECORD, revoked=1)):
        found = ask(TEXT, answer)[0]
        assert isinstance(found, Invalid)
        assert TEXT[20:-6] not in found.detail


def test_a_record_is_remembered_for_five_seconds():
    timer = Timer()
    keys = ApiKeys(timer, FREE)
    assert isinstance(ask(TEXT, RECORD, keys=keys)[0], Ok)
    timer.seconds = 4.9
    assert isinstance(ask(TEXT, keys=keys)[0], Ok)
    timer.seconds = 5.0
    assert isinstance(ask(TEXT, msgspec.structs.replace(RECORD, revoked=NOW), keys=keys)[0], Invalid)
    assert isinstance(ask(TEXT, msgspec.structs.replace(RECORD, revoked=NOW), keys=keys)[0], Invalid)


def test_a_remembered_record_still_wants_the_secret():
    keys = ApiKeys(Timer(), FREE)
    ask(TEXT, RECORD, keys=keys)
    other = checked(TEXT[:-7] + ("a" if TEXT[-7] != "a" else "b"))
    assert isinstance(ask(other, RECORD, keys=keys)[0], Invalid)
    assert isinstance(ask(TEXT, keys=keys)[0], Ok)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_key_is_refused_when_its_id_is_remembered_too(text):
    keys = ApiKeys(Timer(), FREE)
    ask(TEXT, RECORD, keys=keys)
    assert isinstance(ask(text, keys=keys)[0], Invalid)


def test_a_remembered_record_still_expires():
    keys = ApiKeys(Timer(), FREE)
    record = msgspec.structs.replace(RECORD, expires=NOW + 2_000_000)
    assert isinstance(ask(TEXT, record, keys=keys)[0], Ok)
    assert isinstance(ask(TEXT, now=NOW + 1_999_999, keys=keys)[0], Ok)
    assert isinstance(ask(TEXT, record, now=NOW + 2_000_000, keys=keys)[0], Invalid)


def test_that_a_key_is_unknown_is_not_remembered():
    keys = ApiKeys(Timer(), FREE)
    assert isinstance(ask(TEXT, None, keys=keys)[0], Invalid)
    assert isinstance(ask(TEXT, RECORD, keys=keys)[0], Ok)


def test_memory_is_bounded():
    keys = ApiKeys(Timer(), FREE)
    text = checked(f"afk_live_{'0' * 10}_{'x' * 43}")
    for number in range(10_050):
        text = checked(f"afk_live_{number:010}_{'x' * 43}")
        digest = sha256(text.encode()).digest()
        assert isinstance(ask(text, ApiKeyRecord(id=f"{number:010}", digest=digest, account="a"), keys=keys)[0], Ok)
    assert ask(text, keys=keys)[1] == []
    assert len(keys._known) <= 10_000


# Where and when a key is good, and whose it is


def record_with(**members: Any) -> tuple[str, ApiKeyRecord]:
    return new_key("acme", secrets.token_bytes, now=NOW, **members)


def test_a_key_carries_what_its_record_says():
    text, record = record_with(roles=("ops",), tenant="t-1", agent="night-bot", scopes=["a"])
    found, _ = ask(text, record)
    assert isinstance(found, Ok)
    actor = found.actor
    assert (actor.roles, actor.tenant, actor.agent, actor.scopes) == (
        frozenset({"ops"}),
        "t-1",
        "night-bot",
        frozenset({"a"}),
    )


def test_a_key_that_has_not_begun():
    text, record = record_with(begins=NOW + 1)
    assert isinstance(ask(text, record)[0], Invalid)
    assert isinstance(ask(text, record, now=NOW + 1)[0], Ok)


@pytest.mark.parametrize(
    ("peer", "good"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::7", True),
        ("2001:db8::7%eth0", True),
        ("192.168.0.9", True),
        ("192.168.0.10", False),
        ("11.0.0.1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_a_key_that_may_come_from_some_networks_only(peer, good):
    text, record = record_with(networks=("10.0.0.0/8", "2001:db8::/32", "192.168.0.9"))
    keys = ApiKeys(Timer(), FREE)
    found, _ = settled(keys.check(text, NOW, "10.0.0.1"), record)
    assert isinstance(found, Ok)
    # What is remembered is good from there only, too.
    assert (keys.recall(text, NOW, peer) is not None) is good
    found, _ = settled(keys.check(text, NOW, peer), *([] if good else [record]))
    assert isinstance(found, Ok if good else Invalid)


@pytest.mark.parametrize(
    "members",
    [
        {"scopes": ("a b",)},
        {"scopes": ("",)},
        {"roles": ("a\n",)},
        {"tenant": "a\x00"},
        {"agent": "a" * 257},
        {"networks": ("10.0.0.1/8",)},
        {"networks": ("everywhere",)},
    ],
)
def test_a_record_that_cannot_stand(members):
    with pytest.raises(ValueError):
        record_with(**members)


# Guesses


def test_what_may_be_a_guess_says_so():
    made_up = checked(f"afk_live_{'0' * 10}_{'0' * 43}")
    assert ask(made_up, None)[0] == Invalid("the API key 0000000000 is not known", guess=True)
    other = msgspec.structs.replace(RECORD, digest=bytes(32))
    assert ask(TEXT, other)[0] == Invalid(f"the API key {RECORD.id} is not known", guess=True)
    for found in (ask(TEXT[:-1] + "!")[0], ask(TEXT, msgspec.structs.replace(RECORD, revoked=1))[0]):
        assert isinstance(found, Invalid)
        assert not found.guess


def test_an_id_that_was_good_once_is_known_by_its_need():
    keys = ApiKeys(timer := Timer(), FREE)
    assert ask(TEXT, RECORD, keys=keys)[1] == [NeedKey(RECORD.id)]
    timer.seconds = 6
    assert ask(TEXT, RECORD, keys=keys)[1] == [NeedKey(RECORD.id, seen=True)]


# Keys of another make

OLD = "sk_live_51HxyzABCDEFG"
OLD_DIGEST = sha256(OLD.encode()).digest()


def test_a_key_of_another_make_is_good_by_its_digest():
    record = imported_key(OLD_DIGEST, "acme", now=NOW, scopes=("a",))
    keys = ApiKeys(Timer(), FREE, imported=True)
    found, asked = settled(keys.check(OLD, NOW), record)
    assert isinstance(found, Ok)
    assert (found.actor.id, found.actor.credential) == ("key:acme", f"afk:{record.id}")
    assert asked == [NeedKey(record.id)]
    assert OLD not in repr(record)
    assert settled(keys.check(OLD + "x", NOW), None)[0] == Invalid(
        f"the API key {imported_id(sha256((OLD + 'x').encode()).digest())} is not known", guess=True
    )
    # Another text whose digest begins alike is another key.
    other = msgspec.structs.replace(record, digest=OLD_DIGEST[:10] + bytes(22))
    assert isinstance(settled(keys.check(OLD, NOW), other)[0], Invalid)


def test_where_they_are_not_accepted_they_are_strangers():
    keys = ApiKeys(Timer(), FREE)
    assert not keys.takes(OLD)
    assert settled(keys.check(OLD, NOW))[0] == Invalid("not an API key", foreign=True)


@pytest.mark.parametrize("text", ["short", "a" * 513, "with space", "é" * 20, ""])
def test_what_is_never_looked_up(text):
    assert isinstance(settled(ApiKeys(Timer(), FREE, imported=True).check(text, NOW))[0], Invalid)


def test_a_token_is_no_key_of_another_make():
    keys = ApiKeys(Timer(), FREE, imported=True)
    assert keys.takes(OLD)
    assert not keys.takes("a.b.c")


def test_a_digest_is_sha256():
    with pytest.raises(ValueError, match="32 bytes"):
        imported_key(b"x" * 20, "acme", now=NOW)
