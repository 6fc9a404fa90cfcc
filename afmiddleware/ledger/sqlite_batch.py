"""How a writer stores what a batch has changed: all of its rows by one statement.

Python's SQLite module lets go of the interpreter's lock at every statement. Beside a thread that computes it gets the
lock back a switch interval later (5 ms), and on an event loop's thread each change of threads costs what the caches
held. So the rows of all tables are inserted into one temporary view, whose triggers put each into its table.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTER, HOLD, RECEIPT, HEAD, NODE, CHECKPOINT = range(6)
"""What a row is of: the first of its values."""

_COLUMNS: Final = ("what", *"abcdefghijk")
_NONE: Final = (None,) * len(_COLUMNS)
_MOST: Final = 1024
_INTO: Final = {
    COUNTER: "INSERT INTO counter VALUES (NEW.a, NEW.b) ON CONFLICT (key) DO UPDATE SET data = excluded.data",
    HOLD: (
        "INSERT INTO hold (id, state, created, due, data) VALUES (NEW.a, NEW.b, NEW.c, NEW.d, NEW.e)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due, data = excluded.data"
    ),
    RECEIPT: f"INSERT INTO receipt VALUES ({', '.join(f'NEW.{name}' for name in _COLUMNS[1:])})",  # noqa: S608 (names of this file)
    HEAD: (
        "UPDATE head SET size = NEW.a, leaf = NEW.b, ts = NEW.c, frontier = NEW.d WHERE id = 1 AND size = NEW.e;"
        " SELECT RAISE(ABORT, 'the end of its log moved during a transaction') WHERE changes() <> 1"
    ),
    NODE: "INSERT INTO node VALUES (NEW.a, NEW.b, NEW.c)",
    CHECKPOINT: "INSERT INTO checkpoint VALUES (NEW.a, NEW.b)",
}


def prepare(connection: sqlite3.Connection) -> None:
    """Make the view and its triggers, which only this connection has. Raises `sqlite3.Error`."""
    names = ", ".join(_COLUMNS)
    connection.execute(f"CREATE TEMP VIEW batch ({names}) AS SELECT {', '.join(['NULL'] * len(_COLUMNS))}")
    for what, into in _INTO.items():
        connection.execute(
            f"CREATE TEMP TRIGGER batch_{what} INSTEAD OF INSERT ON batch WHEN NEW.what = {what} BEGIN {into}; END"
        )


def put(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store rows in their order, each what it is of and its values in the order of the table's columns.

    Raises `sqlite3.Error`; then none of them is stored.
    """
    most = min(_MOST, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(_COLUMNS))
    for start in range(0, len(rows), most):
        portion = rows[start : start + most]
        # Filled up with rows of nothing, so that there are few sizes, and the connection remembers each statement.
        size = min(1 << (len(portion) - 1).bit_length(), most)
        filled = [row + _NONE[len(row) :] for row in portion] + [_NONE] * (size - len(portion))
        connection.execute(_statement(size), [*chain.from_iterable(filled)])


@lru_cache(maxsize=32)
def _statement(size: int) -> str:
    row = f"({','.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO batch VALUES {','.join([row] * size)}"  # noqa: S608 (marks of parameters)
