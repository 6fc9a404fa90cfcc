"""Two who change one API key at the same time: neither undoes what the other was told is done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from afmiddleware.keys import Keys
from afmiddleware.ledger.base import Filter
from afmiddleware.model.entry import Closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.ledger.base import Ledger
    from afmiddleware.testing import FrozenClock


def first(then: Callable[[], object]) -> Callable[[], None]:
    """What happens once, between the reading of a key and its change."""
    left = [then]

    def happen() -> None:
        while left:
            left.pop()()

    return happen


def test_a_key_that_is_revoked_while_it_is_rotated_stays_revoked(ledger: Ledger, clock: FrozenClock) -> None:
    keys = Keys(ledger, clock)
    made = keys.create("acme").record.id
    meanwhile = first(lambda: keys.revoke(made))

    def draw(size: int) -> bytes:
        meanwhile()
        return os.urandom(size)

    with pytest.raises(ValueError, match="at the same time"):
        Keys(ledger, clock, draw).rotate(made)
    assert [bool(one.revoked) for one in keys.all()] == [True, True]


def test_a_key_that_is_rotated_while_it_is_revoked_is_revoked_and_says_by_what_it_was_replaced(
    ledger: Ledger, clock: FrozenClock
) -> None:
    keys = Keys(ledger, clock)
    made = keys.create("acme").record.id
    meanwhile = first(lambda: keys.rotate(made))

    def late() -> int:
        meanwhile()
        return clock()

    told = Keys(ledger, late).revoke(made)
    kept = keys.get(made)
    assert kept == told
    assert told.revoked
    assert told.rotated_to in {one.id for one in keys.all()}


def test_of_two_rotations_one_is_refused(ledger: Ledger, clock: FrozenClock) -> None:
    keys = Keys(ledger, clock)
    made = keys.create("acme").record.id
    meanwhile = first(lambda: keys.rotate(made))

    def draw(size: int) -> bytes:
        meanwhile()
        return os.urandom(size)

    with pytest.raises(ValueError, match="at the same time"):
        Keys(ledger, clock, draw).rotate(made)
    good = [one.id for one in keys.all() if not one.revoked and not one.rotated_to]
    old = keys.get(made)
    assert old is not None
    assert good == [old.rotated_to]


def test_what_was_not_changed_leaves_no_receipt(ledger: Ledger, clock: FrozenClock) -> None:
    from afmiddleware.ledger.orders import key_change

    keys = Keys(ledger, clock)
    old = keys.create("acme").record
    keys.revoke(old.id)
    size = ledger.head().size
    closed = ledger.commit(key_change("key.rotate", old, "", over=old))
    assert isinstance(closed, Closed)
    assert not closed.booked
    assert ledger.head().size == size == len([*ledger.receipts(Filter(kind="operation"))])
