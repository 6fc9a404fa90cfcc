"""What a writer keeps of its own file: never anything that is not stored there."""

from __future__ import annotations

import os
import sqlite3
from itertools import groupby
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.receipt_key import read_signing_key
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.ledger.sqlite_file import connect
from afmiddleware.ledger.sqlite_taken import Files
from afmiddleware.ledger.sqlite_warm import Warm, select
from afmiddleware.ledger.sqlite_writer import FOLDED_AT, SqliteWriter
from afmiddleware.ledger.stored import Seen
from afmiddleware.model import Closed, Conclusion, End, Held, Outcome, Settlement, Window
from afmiddleware.model.entry import Item
from afmiddleware.receipts.checkpoint import KeySigner
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, rate, spend, sqlite

AT = "SELECT key, data FROM row WHERE key IN"
TOTAL = Window("total")


@pytest.fixture
def file(tmp_path: Path) -> sqlite3.Connection:
    connection = connect(tmp_path / "rows.db", create=True)
    connection.execute("CREATE TABLE row (key TEXT PRIMARY KEY, data BLOB)")
    connection.execute("INSERT INTO row VALUES ('a', x'01')")
    return connection


def look(warm: Warm, *keys: str) -> list[tuple[str, bytes]]:
    return warm.read(warm.counters, AT, keys)


def test_what_was_read_or_noted_is_not_read_again(file: sqlite3.Connection) -> None:
    warm, asked = Warm(file), list[str]()
    warm.begin()
    assert look(warm, "a", "b") == [("a", b"\1")]
    warm.counters["c"] = b"\3"
    warm.keep()
    warm.begin()
    file.set_trace_callback(asked.append)
    assert look(warm, "c", "a", "b") == [("c", b"\3"), ("a", b"\1")]
    assert asked == []
    assert look(warm, "d") == []
    assert len(asked) == 1


def test_a_transaction_that_was_not_kept_leaves_nothing(file: sqlite3.Connection) -> None:
    warm = Warm(file)
    warm.begin()
    look(warm, "a")
    warm.keep()
    warm.begin()
    warm.counters["a"] = b"\2"
    warm.end = ("log", 7)
    warm.begin()
    assert warm.end != ("log", 7)
    assert look(warm, "a") == [("a", b"\1")]


def test_another_connection_that_writes_makes_it_forget(file: sqlite3.Connection, tmp_path: Path) -> None:
    warm, other = Warm(file), connect(tmp_path / "rows.db")
    warm.begin()
    assert look(warm, "a", "b") == [("a", b"\1")]
    warm.keep()
    other.execute("UPDATE row SET data = x'07'")
    other.execute("INSERT INTO row VALUES ('b', x'08')")
    file.execute("BEGIN IMMEDIATE")
    warm.begin()
    assert look(warm, "a", "b") == [("a", b"\7"), ("b", b"\10")]
    file.execute("COMMIT")
    warm.keep()
    warm.forget()
    warm.begin()
    assert warm.counters == {}


def test_it_does_not_grow_for_ever(file: sqlite3.Connection) -> None:
    warm = Warm(file)
    for kept in (warm.counters, warm.holds):
        warm.begin()
        kept.update((str(number), None) for number in range(5000))
        warm.keep()
        warm.begin()
        assert not warm.counters
        assert not warm.holds


def test_any_number_of_keys_is_selected(file: sqlite3.Connection) -> None:
    rows = [(f"k{number}", bytes([number % 256])) for number in range(1300)]
    file.executemany("INSERT INTO row VALUES (?, ?)", rows)
    found = select(file, AT, ["a", *(f"k{number}" for number in range(1400))])
    assert sorted(found) == sorted([("a", b"\1"), *rows])


def test_a_commit_takes_few_statements(tmp_path: Path, clock: FrozenClock) -> None:
    """Each of them is a switch of threads beside one that computes."""
    writer, asked = opened(tmp_path, clock), list[str]()
    limits = (rate(1000), spend(10_000, TOTAL))
    writer.write([entry("d0", *limits)])
    # A statement is told of once more for every trigger that it runs.
    writer._connection.set_trace_callback(lambda told: asked.append(told[:15]))
    batches: tuple[list[Item], ...] = (
        [ended("d0"), entry("d1", *limits)],
        [entry(f"e{number}", *limits) for number in range(20)],
    )
    for batch in batches:
        asked.clear()
        writer.write(batch)
        told = [one for one, _ in groupby(asked)]
        assert told == ["BEGIN IMMEDIATE", "PRAGMA data_ver", "INSERT INTO bat", "COMMIT"]
    writer.close(ending=True)


def test_a_commit_that_failed_is_not_remembered(tmp_path: Path, clock: FrozenClock) -> None:
    writer = opened(tmp_path, clock)
    budget = spend(1000, TOTAL)
    writer.write([entry("d0", budget, amount=100)])
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerUnavailableError, match="full"):
        writer.write([entry(f"f{number}", budget, amount=1) for number in range(200)])
    writer._connection.execute("PRAGMA max_page_count = 1000000")
    held = writer.write([entry("d1", budget, amount=901), entry("d2", budget, amount=900)])
    assert [one.verdict.authorized for one in held if isinstance(one, Held)] == [False, True]
    writer.close(ending=True)


def test_two_writers_of_one_file_share_every_counter(tmp_path: Path, clock: FrozenClock) -> None:
    one = opened(tmp_path, clock)
    two = opened(tmp_path, clock)
    budget, admitted = spend(1000, TOTAL), 0
    for number in range(20):
        for name, writer in (("one", one), ("two", two)):
            held = writer.write([entry(f"{name}{number}", budget, amount=100)])[0]
            assert isinstance(held, Held)
            admitted += held.verdict.authorized
    assert admitted == 10
    # What one has reserved the other ends.
    told = [*two.write([ended("one0")]), *one.write([ended("one0")])]
    assert [one.booked for one in told if isinstance(one, Closed)] == [True, False]
    one.close(ending=True)
    two.close(ending=True)


def ended(name: str) -> Conclusion:
    return Conclusion(name, Outcome(settlement=Settlement.CAPTURE, end=End.OK, status=200))


def opened(folder: Path, clock: FrozenClock) -> SqliteWriter:
    """A writer of a ledger's file."""
    ledger: SqliteLedger = sqlite(folder, clock)
    place, keys = ledger.location, ledger.keys
    ledger.close()

    def signer(_public: bytes) -> KeySigner:
        return read_signing_key(place.signing)

    return SqliteWriter(place.database, keys, clock, os.urandom, None, Seen(), signer, Files(place.database))


def test_the_write_ahead_log_is_folded_back_now_and_then(tmp_path: Path, clock: FrozenClock) -> None:
    writer = opened(tmp_path, clock)
    database, log = tmp_path / "fence.db", tmp_path / "fence.db-wal"
    sizes = list[int]()
    for number in range(80):
        writer.write([entry(f"d{number}-{place}", owner=f"key:{number}-{place}") for place in range(256)])
        sizes.append(log.stat().st_size)
    assert 4000 * FOLDED_AT < max(sizes) < 2 * 4200 * FOLDED_AT
    folded, before = 0, database.stat().st_mtime_ns
    for place in range(10):
        writer.write([entry(f"e{place}")])
        folded += before != (before := database.stat().st_mtime_ns)
    # Its size stays what it was at its largest, which says nothing of what it holds.
    assert log.stat().st_size > 4000 * FOLDED_AT
    assert folded <= 1
    writer.close(ending=True)
