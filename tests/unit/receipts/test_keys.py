"""All keys of a log come from one secret, and tell nothing of it."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.keys import ReceiptKeys

SECRET = bytes(range(32))


def test_the_keys_of_a_secret_are_always_the_same() -> None:
    one, other = ReceiptKeys.derive(SECRET), ReceiptKeys.derive(SECRET)
    assert (one.kid, one.mac(bytes(32)), one.pseudonym("a")) == (other.kid, other.mac(bytes(32)), other.pseudonym("a"))


def test_another_secret_makes_other_keys() -> None:
    one, other = ReceiptKeys.derive(SECRET), ReceiptKeys.derive(SECRET[:-1] + b"\0")
    assert one.kid != other.kid
    assert one.mac(bytes(32)) != other.mac(bytes(32))
    assert one.pseudonym("a") != other.pseudonym("a")


@given(st.binary(max_size=64), st.binary(max_size=100))
def test_the_mac_is_hmac_sha256(key, leaf) -> None:
    keys = ReceiptKeys("0" * 16, key, b"owner", b"ticket", b"salt")
    assert keys.mac(leaf) == hmac.new(key, leaf, "sha256").digest()
    assert keys.mac(leaf) == hmac.new(key, leaf, "sha256").digest()


@pytest.mark.parametrize("size", [0, 16, 31])
def test_a_short_secret_is_refused(size) -> None:
    with pytest.raises(ReceiptError, match=f"this one has {size}"):
        ReceiptKeys.derive(bytes(size))


def test_a_key_does_not_show_its_secrets() -> None:
    keys = ReceiptKeys.derive(SECRET)
    assert SECRET.hex() not in repr(keys)
    assert len(keys.kid) == 16
    assert keys.kid not in SECRET.hex()


def test_pseudonyms_stay_the_same_beyond_what_is_remembered() -> None:
    keys = ReceiptKeys.derive(SECRET)
    first = keys.pseudonym("key:0")
    names = {keys.pseudonym(f"key:{number}") for number in range(10_000)}
    assert len(names) == 10_000
    assert keys.pseudonym("key:0") == first
    assert len(keys._pseudonyms) <= 4096
