"""Which credential a request carries: none is anonymous, one that is bad or doubtful is refused."""

from __future__ import annotations

import secrets

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError
from afmiddleware.identity.api_keys import ApiKeys, new_key
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.needs import NeedKey
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from tests.unit.identity.conftest import FREE, Desk, Timer, request, settled

DESK = Desk()
NOW = DESK.clock()
KEY, RECORD = new_key("acme", secrets.token_bytes, now=NOW)
SECOND, SECOND_RECORD = new_key("acme", secrets.token_bytes, now=NOW)
OTHER, OTHER_RECORD = new_key("globex", secrets.token_bytes, now=NOW)
RECORDS = {record.id: record for record in (RECORD, SECOND_RECORD, OTHER_RECORD)}
TOKEN = DESK.issuer.mint()

AUTH, X_KEY = b"authorization", b"x-api-key"


def bearer(text: str, scheme: str = "Bearer ") -> tuple[bytes, bytes]:
    return AUTH, (scheme + text).encode("latin-1")


def x_key(text: str, name: bytes = X_KEY) -> tuple[bytes, bytes]:
    return name, text.encode("latin-1")


def doors(*, keys: bool = True, tokens: bool = True, header: bytes = X_KEY) -> Authenticators:
    return Authenticators(ApiKeys(Timer(), FREE) if keys else None, header, DESK.tokens if tokens else None)


def identify(*headers: tuple[bytes, bytes], query: bytes = b"", at: Authenticators | None = None) -> Identified:
    """Who makes a request, with every known key's record at hand."""
    flow = (at or doors()).identify(request(*headers, query=query), NOW)
    try:
        need = next(flow)
        while True:
            need = flow.send(RECORDS.get(need.key_id) if isinstance(need, NeedKey) else DESK.keys.now)
    except StopIteration as stop:
        found: Identified = stop.value
        return found


def test_no_credential_is_nobody():
    assert identify() == Absent()
    assert identify((b"cookie", b"session=1"), (b"proxy-authorization", b"Bearer x"), query=b"q=1&token=2") == Absent()


GOOD = {
    "token": ([bearer(TOKEN)], "jwt:https://as.example.com|agent-1"),
    "token, scheme in lower case": ([bearer(TOKEN, "bearer ")], "jwt:https://as.example.com|agent-1"),
    "token, scheme in capitals": ([bearer(TOKEN, "BEARER ")], "jwt:https://as.example.com|agent-1"),
    "token, two spaces": ([bearer(TOKEN, "Bearer  ")], "jwt:https://as.example.com|agent-1"),
    "key as bearer": ([bearer(KEY)], "key:acme"),
    "key in its header": ([x_key(KEY)], "key:acme"),
    "the same key in both": ([bearer(KEY), x_key(KEY)], "key:acme"),
    "two keys of one account": ([bearer(KEY), x_key(SECOND)], "key:acme"),
}


@pytest.mark.parametrize(("headers", "actor"), GOOD.values(), ids=GOOD)
def test_a_good_credential_names_its_actor(headers, actor):
    found = identify(*headers)
    assert isinstance(found, Ok)
    assert found.actor.id == actor


BAD = {
    "scheme alone": [(AUTH, b"Bearer")],
    "scheme and a space": [(AUTH, b"Bearer ")],
    "empty": [(AUTH, b"")],
    "spaces": [(AUTH, b"  ")],
    "basic": [(AUTH, b"Basic dXNlcjpwYXNz")],
    "digest": [(AUTH, b"Digest x")],
    "no scheme": [(AUTH, TOKEN.encode())],
    "key without a scheme": [(AUTH, KEY.encode())],
    "no space": [bearer(TOKEN, "Bearer")],
    "tab": [bearer(TOKEN, "Bearer\t")],
    "tab before": [bearer(TOKEN, "\tBearer ")],
    "colon": [bearer(TOKEN, "Bearer: ")],
    "line break": [bearer(TOKEN + "\n")],
    "zero byte": [bearer(TOKEN + "\x00")],
    "two words": [bearer(f"{TOKEN} {TOKEN}")],
    "not ASCII": [bearer(TOKEN + "\xe9")],
    "quoted": [bearer(f'"{TOKEN}"')],
    "opaque": [bearer("opaque")],
    "key of another kind": [bearer("afk_test_x")],
    "unknown key": [bearer(new_key("acme", secrets.token_bytes, now=NOW)[0])],
    "key header empty": [x_key("")],
    "key header with a token": [x_key(TOKEN)],
    "key header with a scheme": [x_key(f"Bearer {KEY}")],
    "key header not ASCII": [x_key("afk_live_\xe9")],
    "good key beside a bad token": [bearer("a.b.c"), x_key(KEY)],
    "good token beside a bad key": [bearer(TOKEN), x_key("afk_live_x")],
    "good key beside a bad scheme": [(AUTH, b"Basic x"), x_key(KEY)],
    "8 KiB and a byte": [bearer("a" * (8193 - 7))],
    "64 KiB": [bearer("a" * 65536)],
    "a megabyte of a key": [x_key("a" * 1_000_000)],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
def test_a_credential_that_is_not_good_is_never_anonymous(headers):
    found = identify(*headers)
    assert isinstance(found, Invalid)
    assert found.code == ("request.ambiguous" if any(b"\t" in value for _, value in headers) else "identity.invalid")


AMBIGUOUS = {
    "two Authorization headers": [bearer(TOKEN), bearer(TOKEN)],
    "an empty second one": [bearer(TOKEN), (AUTH, b"")],
    "two joined by the server": [bearer(f"{TOKEN},Bearer {TOKEN}")],
    "two joined with a space": [bearer(f"{TOKEN}, Bearer {TOKEN}")],
    "two key headers": [x_key(KEY), x_key(KEY)],
    "two key headers joined by the server": [x_key(f"{KEY},{KEY}")],
    "keys of two accounts": [bearer(KEY), x_key(OTHER)],
    "a token and a key": [bearer(TOKEN), x_key(KEY)],
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_credentials_that_disagree_are_refused(headers):
    found = identify(*headers)
    assert isinstance(found, Invalid)
    assert found.code == "request.ambiguous"


QUERIES = {
    "alone": b"access_token=x",
    "empty": b"access_token=",
    "no value": b"access_token",
    "after another": b"q=1&access_token=x",
    "in disguise": b"q=1&acces%73_t%6Fken=x",
    "underscore in disguise": b"access%5ftoken=x",
    "an API key under any name": b"key=" + KEY.encode(),
    "an API key in disguise": b"key=%61fk_live_x",
    "an API key alone": KEY.encode(),
    "an API key as a name": b"q=1&%61fk_live_x=1",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("headers", [[], [bearer(TOKEN)]], ids=["alone", "beside a header"])
def test_a_credential_in_the_query_is_refused(query, headers):
    found = identify(*headers, query=query)
    assert isinstance(found, Invalid)
    assert found.code == "request.ambiguous"


PLAIN_QUERIES = [
    b"xaccess_token=1",
    b"access_tokens=1",
    b"q=access_token",
    b"q=a%26access_token%3Dx",
    b"next=https://example.com/?access_token=x",
    b"q=what+is+afk_live_",
    b"%",
]


@pytest.mark.parametrize("query", PLAIN_QUERIES)
def test_a_query_that_only_speaks_of_credentials_passes(query):
    assert identify(query=query) == Absent()


@pytest.mark.parametrize(
    ("headers", "at"),
    [
        ([bearer(TOKEN)], doors(tokens=False)),
        ([bearer(KEY)], doors(keys=False)),
        ([x_key(KEY)], doors(keys=False)),
        ([bearer(TOKEN)], doors(keys=False, tokens=False)),
        ([bearer(KEY), x_key(KEY)], doors(keys=False)),
    ],
    ids=["token", "key as bearer", "key in its header", "nothing configured", "both"],
)
def test_a_credential_nobody_is_configured_for_is_refused(headers, at):
    assert isinstance(identify(*headers, at=at), Invalid)


def test_the_header_of_keys_is_the_configured_one():
    at = doors(header=b"x-shop-key")
    assert isinstance(identify(x_key(KEY, b"x-shop-key"), at=at), Ok)
    assert identify(x_key(KEY), at=at) == Absent()


def test_a_megabyte_is_refused_before_it_is_looked_at():
    for header in (bearer("afk_live_" + "a" * 2**20), x_key("afk_live_" + "a" * 2**20), bearer("a.b." + "a" * 2**20)):
        found, asked = settled(doors().identify(request(header), NOW))
        assert isinstance(found, Invalid)
        assert "too long" in found.detail
        assert asked == []


# What is recalled of a credential that was good a moment ago

ALL_REQUESTS = [
    *(headers for headers, _ in GOOD.values()),
    *BAD.values(),
    *AMBIGUOUS.values(),
    [],
    [(b"cookie", TOKEN.encode())],
    [bearer(TOKEN), (X_KEY, b"")],
    [bearer(KEY), (X_KEY, b"")],
    [bearer(f" {KEY}")],
    [bearer(f"{KEY} ")],
    [bearer(KEY[:-1])],
    [bearer(KEY[:-1] + "\xe9")],
    [bearer(KEY + "a")],
]


@pytest.mark.parametrize("query", [b"", b"q=1", b"access_token=x"])
@pytest.mark.parametrize("headers", ALL_REQUESTS, ids=range(len(ALL_REQUESTS)))
def test_recalling_never_says_more_than_looking(headers, query):
    at = doors()
    for text in (KEY, SECOND, OTHER, TOKEN):
        assert isinstance(identify(bearer(text), at=at), Ok)
    recalled = at.recall(request(*headers, query=query), NOW)
    assert recalled is None or recalled == identify(*headers, query=query)


def test_a_credential_that_was_good_is_recalled_until_it_ends():
    desk, timer = Desk(), Timer()
    token = desk.issuer.mint(exp=NOW // 1_000_000 + 30)
    at = Authenticators(ApiKeys(timer, FREE), X_KEY, desk.tokens)
    for text, answers in ((KEY, [RECORD]), (token, [])):
        head = request(bearer(text))
        assert at.recall(head, NOW) is None
        found, _ = settled(at.identify(head, NOW), *answers)
        assert at.recall(head, NOW) is found
    assert at.recall(request(bearer(token)), NOW + 39_999_999) is not None
    assert at.recall(request(bearer(token)), NOW + 40_000_000) is None
    timer.seconds = 5.0
    assert at.recall(request(bearer(KEY)), NOW) is None
    desk.keys.now = None
    assert at.recall(request(bearer(token)), NOW) is None


def test_a_key_that_ends_is_not_recalled_past_its_end():
    at = doors()
    record = msgspec.structs.replace(RECORD, expires=NOW + 1_000_000)
    head = request(bearer(KEY))
    found, _ = settled(at.identify(head, NOW), record)
    assert at.recall(head, NOW + 999_999) is found
    assert at.recall(head, NOW + 1_000_000) is None


def test_the_hot_path_asks_for_nothing():
    at = doors()
    identify(bearer(KEY), at=at)
    for header in (bearer(KEY), x_key(KEY), bearer(TOKEN)):
        found, asked = settled(at.identify(request(header), NOW))
        assert isinstance(found, Ok)
        assert asked == []


def test_keys_that_cannot_be_had_leave_it_open():
    desk = Desk()
    desk.keys.now = None
    at = Authenticators(None, X_KEY, desk.tokens)
    flow = at.identify(request(bearer(desk.issuer.mint())), desk.clock())
    assert isinstance(settled(flow, IdentityUnavailableError("down"))[0], Unavailable)


def test_a_ledger_that_is_down_is_not_taken_for_an_unknown_key():
    with pytest.raises(LedgerUnavailableError):
        settled(doors().identify(request(x_key(KEY)), NOW), LedgerUnavailableError("down"))


@given(
    st.lists(st.tuples(st.sampled_from([AUTH, X_KEY, b"cookie"]), st.binary(max_size=40)), max_size=3),
    st.binary(max_size=40),
)
def test_no_headers_make_it_stumble(headers, query):
    found = identify(*headers, query=query)
    present = any(name != b"cookie" for name, _ in headers)
    assert isinstance(found, Invalid if present else Invalid | Absent)
