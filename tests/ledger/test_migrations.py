"""Tables of an older release become those of this one, with everything in them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from afmiddleware.ledger import schema as sqlite_schema
from afmiddleware.ledger.base import Filter, Ledger
from afmiddleware.model import Closed, Held, Settlement, Window
from afmiddleware.model.entry import Settle
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import crowd, entry, spend, sqlite
from tests.ledger.servers import SECRET, admin, postgres, schema

BUDGET = spend(10_000, Window("total"))


KEYS = ReceiptKeys.derive(SECRET)


def lives_on(ledger: Ledger) -> None:
    """A ledger of an older release charges, holds, settles and is checked like any other."""
    held = ledger.commit(entry("d1", BUDGET, crowd(1), amount=100))
    assert isinstance(held, Held)
    assert held.verdict.authorized
    closed = ledger.commit(Settle("d1", Settlement.RELEASE))
    assert isinstance(closed, Closed)
    assert closed.state == "release"
    report = verify(ledger.receipts(Filter()), ledger.head(), KEYS, None)
    assert (report.status, report.checked) == ("unanchored", 2)


def test_sqlite(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "fence.db").conn) as database, database:
        sqlite_schema._STEPS[0](Database(database))
        database.execute("PRAGMA user_version = 1")
        database.execute("INSERT INTO head VALUES (1, 'afm-old', 0, ?, 0, ?)", (bytes(32), KEYS.kid))
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        assert ledger.head().log == "afm-old"
        lives_on(ledger)
    with closing(Database(tmp_path / "fence.db").conn) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (sqlite_schema.VERSION,)


@pytest.mark.service("postgresql")
def test_postgresql() -> None:
    from psycopg import sql

    from afmiddleware.ledger import postgres_schema

    with schema() as url:
        name = url.partition("schema=")[2].partition("&")[0]
        with admin() as connection:
            for statement in postgres_schema._STEPS[0]:
                connection.execute(sql.SQL(statement).format(schema=sql.Identifier(name)))
            connection.execute(f"UPDATE {name}.meta SET version = 1")
            connection.execute(f"INSERT INTO {name}.head VALUES (1, 'afm-old', 0, %s, 0, %s)", (bytes(32), KEYS.kid))
        with closing(postgres(url)) as ledger:
            assert ledger.head().log == "afm-old"
            lives_on(ledger)
        with admin() as connection:
            assert connection.execute(f"SELECT version FROM {name}.meta").fetchone() == (postgres_schema.VERSION,)
