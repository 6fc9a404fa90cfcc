"""Nothing that is told of a credential holds the credential."""

from __future__ import annotations

import json
import secrets
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.identity.api_keys import ApiKeys, new_key
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.needs import NeedKey
from afmiddleware.identity.outcome import Identified, Invalid, Ok, Unavailable
from tests.unit.identity.conftest import FREE, Desk, Timer, request

DESK = Desk()
NOW = DESK.clock()
TEXT, RECORD = new_key("acme", secrets.token_bytes, now=NOW)
MARK = "Zq7Zq7Zq7Zq7"
"""Stands in every part of a credential that a test makes up."""

NAMES = st.sampled_from(
    ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "sid", "act", "scope", "cnf", "alg", "kid", "typ", "crit", "jku"]
)
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [MARK, MARK + "\n", MARK * 30, [MARK], [MARK] * 12, {"sub": MARK + "\x00"}, {MARK: MARK}, 1, None, True, 1e300]
)


def told(found: Identified) -> str:
    """All that an outcome says."""
    return repr(found) + (str(msgspec.structs.asdict(found)) if isinstance(found, Invalid | Unavailable) else "")


def identify(*headers: tuple[bytes, bytes], record: Any = None, query: bytes = b"") -> tuple[Identified, ApiKeys]:
    keys = ApiKeys(Timer(), FREE)
    flow = Authenticators(keys, b"x-api-key", DESK.tokens).identify(request(*headers, query=query), NOW)
    try:
        need = next(flow)
        while True:
            need = flow.send(record if isinstance(need, NeedKey) else DESK.keys.now)
    except StopIteration as stop:
        return stop.value, keys


def pieces(text: str, size: int = 10) -> list[str]:
    """What would give a part of a credential away."""
    return [text[start : start + size] for start in range(len(text) - size + 1)]


@given(
    header=st.dictionaries(NAMES, VALUES, max_size=2),
    claims=st.dictionaries(NAMES, VALUES, max_size=3),
    cut=st.sampled_from(["", "=", ".", " ", "é", ",", "\n"]),
    broken=st.booleans(),
)
def test_of_a_token_nothing_is_told(header, claims, cut, broken):
    payload: Any = DESK.claims(**claims)
    text = DESK.signed({"alg": "ES256", "kid": "test-1"} | header, json.dumps(payload)[:-1] if broken else payload)
    found, _ = identify((b"authorization", f"Bearer {text}{cut}".encode()))
    if isinstance(found, Ok):
        return
    assert MARK not in told(found)
    assert not any(piece in told(found) for piece in pieces(text))


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("aZ0_- .\xe9"), st.booleans(), st.booleans())
def test_of_an_api_key_nothing_but_its_id_is_told(place, letter, in_header, known):
    text = TEXT[:place] + letter + TEXT[place + 1 :]
    name, value = (b"x-api-key", text) if in_header else (b"authorization", f"Bearer {text}")
    found, _ = identify((name, value.encode("latin-1")), record=RECORD if known else None)
    assert isinstance(found, Ok if text == TEXT and known else Invalid)
    assert not any(piece in told(found) for piece in [*pieces(TEXT[20:]), *pieces(text[20:])])


def test_of_a_credential_in_the_query_nothing_is_told():
    for query in (f"access_token={MARK}", f"q={TEXT}", TEXT):
        found, _ = identify(query=query.encode())
        assert isinstance(found, Invalid)
        assert MARK not in told(found)
        assert not any(piece in told(found) for piece in pieces(TEXT))


def test_what_is_remembered_does_not_hold_the_credential():
    token = DESK.issuer.mint(jti="t-1")
    found, keys = identify((b"authorization", f"Bearer {TEXT}".encode()), record=RECORD)
    assert isinstance(found, Ok)
    assert isinstance(identify((b"authorization", f"Bearer {token}".encode()))[0], Ok)
    remembered = repr([list(keys._known.items()), list(DESK.tokens._known.items())])
    assert "acme" in remembered
    assert "agent-1" in remembered
    assert not any(piece in remembered for piece in [*pieces(TEXT[20:]), *pieces(token)])


def test_the_record_of_a_key_does_not_hold_it():
    stored = msgspec.json.encode(RECORD).decode() + repr(RECORD)
    assert not any(piece in stored for piece in pieces(TEXT[20:]))
