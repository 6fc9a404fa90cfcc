"""API keys in Python: made, rotated, revoked and imported, each on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.identity.api_keys import ApiKeys
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY = "version: 1\nservice: s\nledger: memory\nidentity: {api_keys: {imported: true}}\n"


@pytest.fixture
def fence() -> Iterator[Fence]:
    fence = Fence(load(POLICY), clock=FrozenClock())
    yield fence
    fence.close()


def operations(fence: Fence) -> list[tuple[str, str]]:
    found = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter(kind="operation"))]
    return [(str(body["operation"]), str(body["name"])) for body in found]


def test_every_change_is_on_record(fence):
    made = fence.keys.create("acme", label="till 4", by="admin")
    turned = fence.keys.rotate(made.record.id, by="admin")
    fence.keys.revoke(turned.record.id, by="admin", reason="leaked")
    old = fence.keys.import_digest(sha256(b"old-key").digest(), "acme")
    assert operations(fence) == [
        ("key.new", made.record.id),
        ("key.new", turned.record.id),
        ("key.rotate", made.record.id),
        ("key.revoke", turned.record.id),
        ("key.import", old.id),
    ]
    whole = b"".join(one.receipt.body for one in fence.ledger.receipts(Filter()))
    assert made.text.encode() not in whole
    assert made.text not in repr(fence.keys.all())


def test_a_rotated_key_goes_on_for_its_overlap_and_no_longer_than_its_end(fence):
    end = datetime.fromtimestamp(fence.clock() / 1e6, UTC) + timedelta(hours=2)
    made = fence.keys.create("acme", expires=end)
    turned = fence.keys.rotate(made.record.id, overlap=timedelta(days=7))
    assert fence.keys.get(made.record.id).expires == made.record.expires == turned.record.expires
    other = fence.keys.create("acme")
    fence.keys.rotate(other.record.id, overlap=timedelta(hours=1))
    assert fence.keys.get(other.record.id).expires == fence.clock() + 3_600_000_000


@pytest.mark.parametrize("how", ["revoked", "rotated", "over"])
def test_what_is_at_its_end_is_not_rotated(fence, how):
    end = datetime.fromtimestamp(fence.clock() / 1e6, UTC) + timedelta(hours=2)
    made = fence.keys.create("acme", expires=end)
    if how == "over":
        fence.clock.advance(7200)
    elif how == "revoked":
        fence.keys.revoke(made.record.id)
    else:
        fence.keys.rotate(made.record.id)
    with pytest.raises(ValueError, match="make a new one"):
        fence.keys.rotate(made.record.id)


def test_a_revoked_key_stays_as_it_was(fence):
    made = fence.keys.create("acme")
    first = fence.keys.revoke(made.record.id)
    fence.clock.advance(60)
    assert fence.keys.revoke(made.record.id) == first
    assert len(operations(fence)) == 2


def test_there_is_no_such_key(fence):
    for change in (fence.keys.rotate, fence.keys.revoke):
        with pytest.raises(KeyError):
            change("0123456789")


def test_a_time_has_a_zone(fence):
    with pytest.raises(ValueError, match="has no time zone"):
        fence.keys.create("acme", expires=datetime(2030, 1, 1))  # noqa: DTZ001 (that is what is wrong with it)
    assert fence.keys.all() == []


def test_when_a_key_was_last_used_is_known_to_a_minute(fence):
    key, record = fence.keys.create("acct")
    bad = key[:-1] + ("0" if key[-1] != "0" else "1")
    times = FrozenClock()
    # Nothing is remembered, so that every showing looks the record up.
    keys = ApiKeys(lambda: 0.0, Lock(), fresh=0)
    first = times()

    def show(text):
        return [type(need).__name__ for need in needs_of(keys.check(text, times()), fence.resolve)]

    assert show(bad) == []
    assert fence.keys.used([record.id]) == {}
    assert show(key) == ["NeedKey", "NoteUse"]
    assert fence.keys.used([record.id, "nobody"]) == {record.id: instant(first)}
    times.advance(59)
    assert show(key) == ["NeedKey"]
    times.advance(1)
    assert show(key) == ["NeedKey", "NoteUse"]
    assert fence.keys.used([record.id]) == {record.id: instant(first) + timedelta(seconds=60)}
    fence.keys.revoke(record.id)
    times.advance(120)
    assert show(key) == ["NeedKey"]


def needs_of(check, resolve):
    answer = None
    while True:
        try:
            need = check.send(answer)
        except StopIteration:
            return
        yield need
        answer = resolve(need)


def instant(at):
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
