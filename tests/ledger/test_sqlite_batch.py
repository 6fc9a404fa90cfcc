"""How a writer stores the rows of a batch: all of them, or none."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmiddleware.ledger.sqlite_batch import CHECKPOINT, COUNTER, HEAD, HOLD, NODE, RECEIPT, prepare, put
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import sqlite

TABLES = {
    COUNTER: "SELECT key, data FROM counter",
    HOLD: "SELECT id, state, created, due, data FROM hold",
    NODE: "SELECT level, place, hash FROM node",
    CHECKPOINT: "SELECT size, note FROM checkpoint",
    RECEIPT: "SELECT * FROM receipt",
}
data = st.binary(max_size=20)
number = st.integers(0, 2**62)
rows = st.one_of(
    st.tuples(st.just(COUNTER), st.text(max_size=3), data),
    st.tuples(st.just(HOLD), st.sampled_from("abc"), st.sampled_from(["held", "unknown"]), st.just(7), number, data),
    st.tuples(st.just(NODE), st.integers(0, 64), number, data),
    st.tuples(st.just(CHECKPOINT), number, st.text(max_size=20)),
    st.tuples(st.just(RECEIPT), number, data, data, data, *[st.text(max_size=3)] * 5, number, st.none() | data),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    """The tables of a ledger, with nothing in them."""
    folder = tmp_path_factory.mktemp("batch")
    sqlite(folder, FrozenClock()).close()
    connection = sqlite3.connect(folder / "fence.db", isolation_level=None)
    prepare(connection)
    return connection


def key_of(row: tuple[Any, ...]) -> Any:
    return (row[0], *row[1 : 3 if row[0] == NODE else 2])


@given(written=st.lists(rows, max_size=200), limit=st.sampled_from([999, 100_000]))
@settings(max_examples=60)
def test_every_row_is_in_its_table(file: sqlite3.Connection, written: list[tuple[Any, ...]], limit: int) -> None:
    # Receipts, nodes and checkpoints are written once; counters and holds again and again.
    last = {key_of(row): row for row in written}
    kept = [row for row in written if row[0] in (COUNTER, HOLD) or last[key_of(row)] is row]
    file.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)
    file.execute("BEGIN")
    put(file, kept)
    for what, query in TABLES.items():
        wanted = {row[1:] for row in last.values() if row[0] == what}
        assert set(file.execute(query)) == wanted
    file.execute("ROLLBACK")


def test_the_end_of_a_log_that_has_moved_is_not_written(file: sqlite3.Connection) -> None:
    file.execute("BEGIN")
    put(file, [(HEAD, 1, b"leaf", 5, b"tree", 0)])
    assert file.execute("SELECT size, leaf, ts, frontier FROM head").fetchall() == [(1, b"leaf", 5, b"tree")]
    with pytest.raises(sqlite3.IntegrityError, match="moved"):
        put(file, [(COUNTER, "a", b"1"), (HEAD, 2, b"leaf", 5, b"tree", 0)])
    assert file.execute("SELECT * FROM counter").fetchall() == []
    file.execute("ROLLBACK")


def test_what_a_table_refuses_is_refused_whole(file: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="BLOB"):
        put(file, [(COUNTER, "a", b"1"), (COUNTER, "b", "no bytes")])
    assert file.execute("SELECT * FROM counter").fetchall() == []


def test_the_tables_of_the_file_are_as_they_were(tmp_path: Path) -> None:
    sqlite(tmp_path, FrozenClock()).close()
    connection = sqlite3.connect(tmp_path / "fence.db", isolation_level=None)
    before = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    prepare(connection)
    assert connection.execute("SELECT sql FROM sqlite_master").fetchall() == before
    connection.close()
