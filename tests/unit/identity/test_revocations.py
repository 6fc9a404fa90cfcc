"""A token that was taken back is refused, however it is spelled, within seconds."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from jwt.utils import base64url_decode, base64url_encode, der_to_raw_signature, raw_to_der_signature

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.identity.needs import NeedRevocations
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.identity.revocations import Revocations
from afmiddleware.model.revocation import ANY_TIME, Revocation
from tests.unit.identity.conftest import Desk, settled

ISSUER = "https://as.example.com"
NOW = Desk().clock()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Strict(Desk):
    """A desk that looks at a list of what was taken back."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.tokens._revoked = Revocations(self.timer)
        self.entries: list[Revocation] = []

    def see(self, text: str, *, asks: bool) -> Any:
        found, asked = settled(self.tokens.check(text, self.clock()), *([self.entries] if asks else []))
        assert asked == ([NeedRevocations()] if asks else [])
        return found

    def revoke(self, kind: str, name: str, before: int = ANY_TIME, issuer: str = ISSUER) -> None:
        self.entries.append(Revocation(kind=kind, issuer=issuer, name=name, before=before, until=ANY_TIME))


@pytest.fixture
def desk() -> Strict:
    return Strict()


def mirrored(token: str) -> str:
    """The same token under the other of its two good ECDSA signatures."""
    head, _, signature = token.rpartition(".")
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1

    curve = SECP256R1()
    r, s = decode_dss_signature(raw_to_der_signature(base64url_decode(signature), curve))
    other = der_to_raw_signature(encode_dss_signature(r, ORDER - s), curve)
    return f"{head}.{base64url_encode(other).decode()}"


def test_every_spelling_of_a_revoked_token_is_revoked(desk):
    text = desk.issuer.mint(jti="t-1")
    assert isinstance(desk.see(mirrored(text), asks=True), Ok)
    desk.revoke("jti", "t-1")
    desk.timer.seconds = 5.1
    assert desk.see(text, asks=True) == Invalid("revoked")
    assert desk.see(mirrored(text), asks=False) == Invalid("revoked")
    for spelled in (text + "=", text + "==", text + " ", text + "\n"):
        assert isinstance(desk.see(spelled, asks=False), Invalid)
    assert isinstance(desk.see(desk.issuer.mint(jti="t-2"), asks=False), Ok)


def test_a_remembered_token_falls_too(desk):
    text = desk.issuer.mint(jti="t-1")
    assert isinstance(desk.see(text, asks=True), Ok)
    assert desk.tokens.recall(text, desk.clock()) is not None
    desk.revoke("jti", "t-1")
    desk.timer.seconds = 5.0
    assert desk.tokens.recall(text, desk.clock()) is not None
    desk.timer.seconds = 5.1
    assert desk.tokens.recall(text, desk.clock()) is None
    assert desk.see(text, asks=True) == Invalid("revoked")
    assert desk.tokens.recall(text, desk.clock()) is None


def test_all_of_a_subject_up_to_a_moment(desk):
    second = NOW // 1_000_000
    desk.revoke("sub", "agent-1", before=NOW)
    old = desk.issuer.mint(iat=second, exp=second + 300)
    assert desk.see(old, asks=True) == Invalid("revoked")
    assert isinstance(desk.see(desk.issuer.mint(sub="agent-2"), asks=False), Ok)
    desk.clock.advance(1)
    assert isinstance(desk.see(desk.issuer.mint(), asks=False), Ok)
    assert desk.see(desk.issuer.mint(iat=None, exp=second + 300), asks=False) == Invalid("MissingRequiredClaimError")


def test_a_token_that_does_not_say_when_it_was_issued_is_an_old_one():
    desk = Strict(require=("exp", "iss", "aud", "sub"))
    desk.revoke("sub", "agent-1", before=1)
    assert desk.see(desk.issuer.mint(iat=None), asks=True) == Invalid("revoked")


@pytest.mark.parametrize(
    ("kind", "name", "claims"),
    [("client", "c-1", {"client_id": "c-1"}), ("client", "c-1", {"azp": "c-1"}), ("kid", "test-1", {})],
)
def test_all_of_a_client_and_all_under_a_key(desk, kind, name, claims):
    desk.revoke(kind, name)
    assert desk.see(desk.issuer.mint(**claims), asks=True) == Invalid("revoked")


def test_one_issuer_takes_back_nothing_of_another(desk):
    desk.revoke("sub", "agent-1", issuer="https://other.example.com")
    # However names are put together, no two entries mean the same.
    desk.revoke("sub", "com|agent-1", issuer="https://as.example.")
    assert isinstance(desk.see(desk.issuer.mint(), asks=True), Ok)


def test_the_list_is_read_by_one_and_used_by_all_for_a_moment(desk):
    text = desk.issuer.mint()
    desk.see(text, asks=True)
    desk.timer.seconds = 6.0
    first = desk.tokens.check(text, desk.clock())
    assert next(first) == NeedRevocations()
    # While one reads it, the others go on with what they have.
    assert isinstance(desk.see(text, asks=False), Ok)
    desk.timer.seconds = 10.1
    assert isinstance(desk.see(text, asks=True), Ok)


def test_a_ledger_that_is_down_is_borne_for_ten_seconds(desk):
    text = desk.issuer.mint()
    desk.see(text, asks=True)
    for seconds, kind in ((6.0, Ok), (12.0, Unavailable), (12.0, Unavailable)):
        desk.timer.seconds = seconds
        found, _ = settled(desk.tokens.check(text, desk.clock()), LedgerUnavailableError("down", retry_after=3))
        assert type(found) is kind
        assert kind is Ok or found == Unavailable("down", 3)


def test_before_the_list_was_read_nothing_is_believed(desk):
    found, _ = settled(desk.tokens.check(desk.issuer.mint(), desk.clock()), LedgerUnavailableError("down"))
    assert isinstance(found, Unavailable)
