"""Tables of an older release become those of this one, with everything in them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from afmiddleware.ledger import schema as sqlite_schema
from afmiddleware.model import Held, Settlement, Window
from afmiddleware.model.entry import Settle
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import crowd, entry, spend, sqlite
from tests.ledger.servers import admin, postgres, schema

BUDGET = spend(10_000, Window("total"))


def old(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    """Make the module one of the first release."""
    monkeypatch.setattr(module, "VERSION", 1)
    monkeypatch.setattr(module, "_STEPS", module._STEPS[:1])  # type: ignore[attr-defined]


def test_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        old(patched, sqlite_schema)
        sqlite(tmp_path, FrozenClock()).close()
    with closing(Database(tmp_path / "fence.db").conn) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        held = ledger.commit(entry("d1", BUDGET, crowd(1), amount=100))
        assert isinstance(held, Held)
        assert held.verdict.authorized
        assert ledger.commit(Settle("d1", Settlement.RELEASE)).state == "release"  # type: ignore[union-attr]


@pytest.mark.service("postgresql")
def test_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    from afmiddleware.ledger import postgres_schema

    with schema() as url:
        with monkeypatch.context() as patched:
            old(patched, postgres_schema)
            postgres(url).close()
        name = url.partition("schema=")[2].partition("&")[0]
        with admin() as connection:
            assert connection.execute(f"SELECT version FROM {name}.meta").fetchone() == (1,)
        with closing(postgres(url)) as ledger:
            held = ledger.commit(entry("d1", BUDGET, crowd(1), amount=100))
            assert isinstance(held, Held)
            assert held.verdict.authorized
            assert ledger.commit(Settle("d1", Settlement.RELEASE)).state == "release"  # type: ignore[union-attr]
