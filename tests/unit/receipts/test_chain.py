"""The bytes of a receipt, made here a second time from the format alone; they may never change."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Draft
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.chain import NO_LEAF, Head, OwnerHead, append, commitment
from afmiddleware.receipts.keys import ReceiptKeys

SECRET = bytes(range(32))
KEYS = ReceiptKeys.derive(SECRET)
NEW = OwnerHead()
DRAFT = Draft(
    kind="intent",
    owner="key:acme",
    body={"id": "d1", "amount": "1250", "flags": [], "exponent": 2},
    private={"recipient": "Zo\u00eb \U0001f600", "payload": None, "peer": ""},
)


def counting(size: int) -> bytes:
    return bytes(range(size))


def derived(label: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, b"afmiddleware receipts v1", label).derive(SECRET)


def test_a_receipt_is_made_as_the_format_says() -> None:
    before, mine = hashlib.sha256(b"before").digest(), hashlib.sha256(b"mine").digest()
    made = append(DRAFT, Head("afm-1", 6, before, 900), OwnerHead(2, mine), KEYS, 1000, counting)
    receipt = made.receipt(KEYS)
    salts = [bytes(range(at, at + 16)) for at in (0, 16, 32)]
    value = "Zo\u00eb \U0001f600".encode()
    framed = [
        b"afm/c1" + salts[0] + b"\x00\x09recipient" + b"\x01" + value,
        b"afm/c1" + salts[1] + b"\x00\x07payload" + b"\x00",
        b"afm/c1" + salts[2] + b"\x00\x04peer" + b"\x01",
    ]
    names = ("recipient", "payload", "peer")
    body: dict[str, Any] = {
        "v": 1,
        "log": "afm-1",
        "seq": 7,
        "ts": 1000,
        "kind": "intent",
        "prev": before.hex(),
        "owner": hmac.new(derived(b"afm/owner", 32), b"key:acme", "sha256").digest()[:16].hex(),
        "oseq": 3,
        "oprev": mine.hex(),
        "kid": derived(b"afm/kid", 8).hex(),
        "c": {name: hashlib.sha256(data).hexdigest() for name, data in zip(names, framed, strict=True)},
        "id": "d1",
        "amount": "1250",
        "flags": [],
        "exponent": 2,
    }
    leaf = hashlib.sha256(b"\x00" + rfc8785.dumps(body)).digest()
    assert receipt.body == rfc8785.dumps(body)
    assert receipt.leaf == leaf
    assert receipt.mac == hmac.new(derived(b"afm/mac", 32), leaf, "sha256").digest()
    assert receipt.seq == 7
    assert receipt.disclosed == dict(zip(names, zip(salts, DRAFT.private.values(), strict=True), strict=True))
    assert (made.seq, made.oseq, made.ts) == (7, 3, 1000)


def test_stored_bytes_stay_as_they_are() -> None:
    """Logs of this format exist: when this fails, the change is wrong, not the digest."""
    receipt = append(DRAFT, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 1_700_000_000_000_000, counting).receipt(KEYS)
    assert receipt.leaf.hex() == "4a6fc44e9f3d72068b8bc597ed5ba493caa016ae0f5b83ded4c58fdf130f29fc"
    assert receipt.mac.hex() == "bf7957469dbfc7b4a344b48429b1031aed69b4ce208c9b26bd9ef1ee88672073"


def test_the_first_receipt_follows_nothing() -> None:
    receipt = append(DRAFT, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 5, counting).receipt(KEYS)
    body = strict_parse(receipt.body)
    assert (body["seq"], body["prev"], body["oseq"], body["oprev"]) == (1, "0" * 64, 1, "0" * 64)
    assert "clock_back" not in body


HOUR, DECADE = 3_600_000_000, 10 * 365 * 86_400_000_000


@pytest.mark.parametrize(
    ("now", "ts", "back"),
    [
        pytest.param(DECADE - HOUR, DECADE, True, id="an hour back"),
        pytest.param(DECADE - 1, DECADE, True, id="a microsecond back"),
        pytest.param(DECADE, DECADE, False, id="the same"),
        pytest.param(DECADE + 1, DECADE + 1, False, id="forward"),
        pytest.param(2 * DECADE, 2 * DECADE, False, id="ten years forward"),
    ],
)
def test_time_never_runs_backwards_and_a_clock_that_did_is_told(now, ts, back) -> None:
    made = append(DRAFT, Head("afm-1", 1, bytes(range(32)), DECADE), NEW, KEYS, now, counting)
    receipt = made.receipt(KEYS)
    body = strict_parse(receipt.body)
    assert (body["ts"], body.get("clock_back", False), made.ts) == (ts, back, ts)


@pytest.mark.parametrize("name", ["v", "log", "seq", "ts", "clock_back", "kind", "prev", "owner", "oseq", "oprev", "c"])
def test_a_draft_cannot_write_what_the_chain_writes(name) -> None:
    draft = Draft(kind="intent", owner="key:a", body={name: "forged"})
    with pytest.raises(ReceiptError, match=f"may not set {name}:"):
        append(draft, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 1, counting)


@pytest.mark.parametrize(
    "draft",
    [
        Draft(kind="intent", owner="key:a", body={"route": "\ud800"}),
        Draft(kind="intent", owner="key:a", body={}, private={"recipient": "\ud800"}),
    ],
    ids=["plain", "private"],
)
def test_a_lone_surrogate_makes_no_receipt(draft) -> None:
    with pytest.raises(ReceiptError):
        append(draft, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 1, counting)


def test_an_owner_may_be_any_text() -> None:
    names = {KEYS.pseudonym(owner) for owner in ("", "key:a", "key:\ud800", "key:\udfff", "key:?", "\x00")}
    assert len(names) == 6
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)


def test_too_little_randomness_makes_no_receipt() -> None:
    with pytest.raises(ReceiptError, match="48 random bytes"):
        append(DRAFT, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 1, lambda size: bytes(size - 1))


def test_no_randomness_is_drawn_for_a_receipt_without_private_members() -> None:
    draft = Draft(kind="outcome", owner="key:a", body={"id": "d1"})
    receipt = append(draft, Head("afm-1", 0, NO_LEAF, 0), NEW, KEYS, 1, lambda _: pytest.fail("drawn")).receipt(KEYS)
    assert "c" not in strict_parse(receipt.body)


SALT = bytes(16)


@given(
    st.tuples(st.text("ab_", min_size=1, max_size=3), st.none() | st.text("a\x00\x01", max_size=3)),
    st.tuples(st.text("ab_", min_size=1, max_size=3), st.none() | st.text("a\x00\x01", max_size=3)),
)
def test_two_members_never_share_a_commitment(one, other) -> None:
    assert (commitment(one[0], SALT, one[1]) == commitment(other[0], SALT, other[1])) == (one == other)


def test_absent_empty_and_other_salts_all_differ() -> None:
    made = {
        commitment("a", SALT, None),
        commitment("a", SALT, ""),
        commitment("a", SALT, "\x00"),
        commitment("b", SALT, ""),
        commitment("a", bytes([1]) + bytes(15), ""),
    }
    assert len(made) == 5
