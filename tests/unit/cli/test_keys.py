"""A key is shown once, kept as a digest, and refused once revoked."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from afmiddleware.config.load import load
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import ApiKeyRecord, ApiKeys
from afmiddleware.identity.needs import NeedKey
from afmiddleware.identity.outcome import Ok
from afmiddleware.ledger.open import open_for_reading, open_for_tools

TEXT = re.compile(r"afk_live_([0-9A-Za-z]{10})_[0-9A-Za-z]{49}")


def made(afm, policy, *options):
    ran = afm("keys", "new", "acct_42", "--policy", policy, *options)
    assert ran.code == 0
    return ran


def records(policy) -> list[ApiKeyRecord]:
    ledger = open_for_reading(load(policy.read_text()), policy.parent)
    try:
        return ledger.api_keys()
    finally:
        ledger.close()


def test_a_key_is_shown_once(afm, policy):
    ran = made(afm, policy)
    found = TEXT.fullmatch(ran.out.strip())
    assert found is not None
    assert ran.err == f"Key {found[1]} of account acct_42. This is the only time it is shown.\n"
    for options in ([], ["--json"]):
        listed = afm("keys", "list", "--policy", policy, *options)
        assert found[1] in listed.out
        assert found[0] not in listed.out + listed.err
        assert found[0][-49:] not in listed.out + listed.err


def test_only_a_digest_of_a_key_is_on_the_disk(afm, policy):
    key = made(afm, policy).out.strip()
    secret = key.rpartition("_")[2].encode()
    files = [one for one in policy.parent.iterdir() if one.name.startswith("fence.db")]
    assert len(files) >= 2
    assert not [one.name for one in files if secret in one.read_bytes() or secret[:43] in one.read_bytes()]
    (record,) = records(policy)
    assert (len(record.digest), record.account) == (32, "acct_42")


def test_a_key_carries_its_scopes_and_label(afm, policy):
    told = made(afm, policy, "--scope", "a.b", "--scope", "c", "--label", "night job", "--json").json
    assert TEXT.fullmatch(told["key"])
    assert told == {"key": told["key"], "id": told["key"].split("_")[2], "account": "acct_42", "scopes": ["a.b", "c"]}
    (listed,) = afm("keys", "list", "--policy", policy, "--json").json
    assert (listed["label"], listed["scopes"], listed["revoked"]) == ("night job", ["a.b", "c"], 0)
    assert afm("keys", "list", "--policy", policy).out.rstrip().endswith("acct_42  night job")


def test_a_list_of_keys_says_until_when_each_is_good(afm, policy):
    first = made(afm, policy).out.split("_")[2]
    assert "until" not in afm("keys", "list", "--policy", policy).out
    afm("keys", "rotate", first, "--overlap", "1h", "--policy", policy)
    made(afm, policy, "--expires", "2999-01-31")
    lines = afm("keys", "list", "--policy", policy).out.splitlines()
    old, new, ending = (
        "".join(one for one in lines if f" {said} " in one) for said in ("rotated", "never used", "2999")
    )
    ends = next(one.expires for one in records(policy) if one.id == first)
    assert f"until {datetime.fromtimestamp(ends // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}" in old
    assert "until 2999-01-31T00:00:00Z" in ending + new


def test_a_list_of_keys_makes_nothing(afm, policy):
    ran = afm("keys", "list", "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert "there is no ledger at" in ran.err
    assert [one.name for one in policy.parent.iterdir()] == ["fence.yaml"]


def test_a_list_without_keys_says_how_to_make_one(afm, policy):
    open_for_tools(load(policy.read_text()), policy.parent).close()
    ran = afm("keys", "list", "--policy", policy)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "no key was made yet; make one with: afmiddleware keys new ACCOUNT\n"
    assert afm("keys", "list", "--policy", policy, "--json").json == []


@pytest.mark.parametrize("account", ["", "a b", "a/b", "-a--", "é", "a" * 129, "a\n"], ids=repr)
def test_an_account_that_is_none_is_usage_and_makes_nothing(afm, policy, account):
    ran = afm("keys", "new", "--policy", policy, "--", account)
    assert (ran.code, ran.out) == (2, "")
    assert "is not an account: 1 to 128 letters, digits, and . _ @ + - inside" in ran.err
    assert [one.name for one in policy.parent.iterdir()] == ["fence.yaml"]


@pytest.mark.parametrize("named", ["by its id", "by the whole key"])
def test_a_revoked_key_stays_revoked(afm, policy, named):
    key = made(afm, policy).out.strip()
    key_id = key.split("_")[2]
    ran = afm("keys", "revoke", key_id if named == "by its id" else key, "--policy", policy)
    assert (ran.code, ran.out.split(" is revoked")[0]) == (0, f"Key {key_id} of account acct_42")
    (record,) = records(policy)
    assert record.revoked > record.created > 0
    assert "revoked" in afm("keys", "list", "--policy", policy).out
    again = afm("keys", "revoke", key_id, "--policy", policy, "--json")
    assert (again.code, again.json["revoked"]) == (0, record.revoked)


def test_a_key_that_is_not_there_cannot_be_revoked(afm, policy):
    made(afm, policy)
    ran = afm("keys", "revoke", "0123456789", "--policy", policy)
    assert (ran.code, ran.out, ran.err) == (1, "", "there is no key 0123456789\n")


def test_a_part_of_a_key_is_not_repeated(afm, policy):
    secret = made(afm, policy).out.strip().rpartition("_")[2]
    ran = afm("keys", "revoke", secret, "--policy", policy)
    assert ran.code == 1
    assert secret[:11] not in ran.err


def asked(policy, text: str) -> object:
    """What a fence that starts now makes of a key: an actor's id, or why it is refused."""
    ledger = open_for_reading(load(policy.read_text()), policy.parent)
    checking = ApiKeys(lambda: 0.0, nullcontext()).check(text, system_clock())
    try:
        need = next(checking)
        assert isinstance(need, NeedKey)
        checking.send(ledger.api_key(need.key_id))
        next(checking)
    except StopIteration as end:
        return end.value.actor.id if isinstance(end.value, Ok) else end.value.detail
    finally:
        ledger.close()
    return None


def test_a_key_is_accepted_until_it_is_revoked(afm, policy):
    first, second = (made(afm, policy).out.strip() for _ in range(2))
    assert (asked(policy, first), asked(policy, second)) == ("key:acct_42", "key:acct_42")
    afm("keys", "revoke", first, "--policy", policy)
    assert asked(policy, first) == f"the API key {first.split('_')[2]} is revoked or expired"
    assert asked(policy, second) == "key:acct_42"


def test_a_rotated_key_stays_good_for_a_while(afm, policy):
    old = made(afm, policy, "--scope", "a.b", "--tenant", "t-1").out.strip()
    ran = afm("keys", "rotate", old.split("_")[2], "--policy", policy, "--overlap", "1h")
    new = ran.out.strip()
    assert (ran.code, TEXT.fullmatch(new) is not None, new != old) == (0, True, True)
    assert (asked(policy, old), asked(policy, new)) == ("key:acct_42", "key:acct_42")
    first, second = records(policy)
    assert (first.rotated_to, second.scopes, second.tenant) == (second.id, ("a.b",), "t-1")
    assert 0 < first.expires - system_clock() <= 3600 * 1_000_000
    assert "rotated" in afm("keys", "list", "--policy", policy).out
    again = afm("keys", "rotate", old, "--policy", policy)
    assert (again.code, "rotated already" in again.err) == (1, True)


def test_a_key_can_be_rotated_at_once(afm, policy):
    old = made(afm, policy).out.strip()
    new = afm("keys", "rotate", old, "--policy", policy, "--overlap", "0s").out.strip()
    assert asked(policy, old) == f"the API key {old.split('_')[2]} is revoked or expired"
    assert asked(policy, new) == "key:acct_42"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["0123456789"], 1, "there is no key 0123456789"),
        ([], 2, "write the id of a key, or --receipts"),
        (["0123456789", "--overlap", "soon"], 2, "soon"),
    ],
)
def test_a_rotation_that_cannot_be(afm, policy, arguments, code, said):
    made(afm, policy)
    ran = afm("keys", "rotate", *arguments, "--policy", policy)
    assert (ran.code, said in ran.err) == (code, True)


def test_a_key_has_its_time_and_place(afm, policy):
    made(afm, policy, "--expires", "30d", "--from", "10.0.0.0/8", "--agent", "night-bot", "--role", "ops")
    made(afm, policy, "--begins", "2999-01-31", "--expires", "2999-12-31T12:00:00+02:00")
    first, second = records(policy)
    assert abs(first.expires - first.created - 30 * 86_400_000_000) < 60_000_000
    assert (first.networks, first.agent, first.roles) == (("10.0.0.0/8",), "night-bot", ("ops",))
    assert second.begins == 32_474_736_000_000_000
    assert second.expires == 32_503_629_600_000_000
    assert "waiting" in afm("keys", "list", "--policy", policy).out


@pytest.mark.parametrize(
    ("command", "wrong", "hint", "said"),
    [
        ("new", ["acct_42", "--expires", "soon"], "--expires", "30d"),
        ("new", ["acct_42", "--from", "here"], "--from", "'here' is not an address or a network"),
        ("new", ["acct_42", "--from", "10.0.0.1/8"], "--from", "no bits after it"),
        ("new", ["acct_42", "--scope", "a b"], "--scope", "'a b' is not a scope"),
        ("new", ["acct_42", "--role", "a b"], "--role", "'a b' is not a scope or a role"),
        ("new", ["acct_42", "--tenant", "a\nb"], "--tenant", "is not printable text"),
        ("new", ["acct_42", "--agent", "a\nb"], "--agent", "is not printable text"),
        ("new", ["acct_42", "--label", "a\nb"], "--label", "is not printable text"),
        ("new", ["acct 42"], "ACCOUNT", "'acct 42' is not an account"),
        ("import", ["acct 42", "--sha256", "aa" * 32], "ACCOUNT", "'acct 42' is not an account"),
        ("import", ["acct_42", "--sha256", "aa"], "--sha256", "32 bytes"),
        ("import", ["acct_42", "--sha256", "zz"], "--sha256", ""),
        ("import", ["acct_42", "--sha256", "aa" * 32, "--scope", "a b"], "--scope", "'a b' is not a scope"),
    ],
)
def test_what_is_wrong_is_said_of_the_argument_that_holds_it(afm, policy, command, wrong, hint, said):
    ran = afm("keys", command, *wrong, "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert f"Invalid value for {hint}: " in ran.err
    assert said in ran.err
    assert not policy.with_name("fence.db").exists()


def test_no_folder_is_made_for_a_ledger_that_was_mistyped(afm, policy):
    policy.write_text(policy.read_text().replace("sqlite:///fence.db", "sqlite:///vra/lib/fence.db"))
    for words in (["new", "acct_42"], ["list"], ["revoke", "abc"]):
        ran = afm("keys", *words, "--policy", policy)
        folder = policy.parent / "vra" / "lib"
        assert (ran.code, ran.out) == (2, "")
        assert f"{policy}: the folder {folder} of the ledger is not there; make it, or correct ledger" in ran.err
    assert not (policy.parent / "vra").exists()


def test_a_key_of_another_make_is_imported_by_its_digest(afm, policy):
    digest = sha256(b"sk_live_51HxyzABCDEFG").hexdigest()
    ran = afm("keys", "import", "acct_42", "--sha256", digest, "--scope", "a.b", "--policy", policy, "--json")
    assert (ran.code, ran.json["id"]) == (0, f"x{digest[:20]}")
    (record,) = records(policy)
    assert (record.digest.hex(), record.account, record.scopes) == (digest, "acct_42", ("a.b",))
    for wrong in ("xyz", "ab"):
        assert afm("keys", "import", "acct_42", "--sha256", wrong, "--policy", policy).code == 2
