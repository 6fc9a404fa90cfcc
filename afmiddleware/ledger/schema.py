"""The tables of an SQLite ledger, and how a file of an older version becomes one of this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerError
from afmiddleware.receipts.merkle import Frontier, extend

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlite_utils import Database

VERSION: Final = 5
"""The version of the tables (`PRAGMA user_version`); migrations only go forward."""


def migrate(database: Database) -> None:
    """Bring the tables to `VERSION`, inside the caller's transaction. Raises `LedgerError` for a newer file."""
    found = int(next(iter(database.query("PRAGMA user_version")))["user_version"])
    if found > VERSION:
        msg = f"the ledger's tables have version {found}, this release knows {VERSION}: upgrade afmiddleware"
        raise LedgerError(msg)
    for step in _STEPS[found:]:
        step(database)
    if found < VERSION:
        database.conn.execute(f"PRAGMA user_version = {VERSION}")


def _first(database: Database) -> None:
    execute = database.conn.execute
    execute("CREATE TABLE counter (key TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID")
    execute(
        "CREATE TABLE hold (id TEXT PRIMARY KEY, state TEXT NOT NULL, created INTEGER NOT NULL, data BLOB NOT NULL)"
        " STRICT, WITHOUT ROWID",
    )
    database.table("head").create(
        {"id": int, "log": str, "size": int, "leaf": bytes, "ts": int, "kid": str},
        pk="id",
        not_null={"log", "size", "leaf", "ts", "kid"},
        strict=True,
    )
    database.table("receipt").create(
        {
            "seq": int,
            "body": bytes,
            "leaf": bytes,
            "mac": bytes,
            "kind": str,
            "decision": str,
            "capability": str,
            "verdict": str,
            "code": str,
            "ts": int,
            "disclosed": bytes,
        },
        pk="seq",
        not_null={"body", "leaf", "mac", "kind", "decision", "capability", "verdict", "code", "ts"},
        strict=True,
    )
    database.table("receipt").create_index(["decision"])
    database.table("api_key").create(
        {"id": str, "account": str, "created": int, "data": bytes},
        pk="id",
        not_null={"account", "created", "data"},
        strict=True,
    )


def _second(database: Database) -> None:
    execute = database.conn.execute
    execute("CREATE TABLE lease (holder INTEGER PRIMARY KEY, until INTEGER NOT NULL) STRICT")
    execute(
        "CREATE TABLE claim (key TEXT PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL) STRICT, WITHOUT ROWID"
    )
    execute("CREATE INDEX claim_expires ON claim (expires)")
    execute("ALTER TABLE hold ADD COLUMN due INTEGER NOT NULL DEFAULT 0")
    execute("CREATE INDEX hold_created ON hold (created)")
    execute("CREATE INDEX hold_due ON hold (due) WHERE due > 0")
    execute("CREATE INDEX hold_open ON hold (state, created) WHERE state IN ('held', 'unknown')")


def _third(database: Database) -> None:
    """The tree over the leaves, and the signatures of it."""
    execute = database.conn.execute
    execute("ALTER TABLE head ADD COLUMN frontier BLOB NOT NULL DEFAULT x''")
    execute("ALTER TABLE head ADD COLUMN signer BLOB NOT NULL DEFAULT x''")
    execute(
        "CREATE TABLE node (level INTEGER, place INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, place))"
        " STRICT, WITHOUT ROWID",
    )
    execute("CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT")
    execute("CREATE TABLE signing_key (public BLOB PRIMARY KEY, after INTEGER NOT NULL, proof BLOB NOT NULL) STRICT")
    leaves = (leaf for (leaf,) in execute("SELECT leaf FROM receipt ORDER BY seq"))
    frontier, nodes = extend(Frontier(), leaves)
    rows = [(node.level, node.index, node.hash) for node in nodes]
    database.conn.executemany("INSERT INTO node VALUES (?, ?, ?)", rows)
    execute("UPDATE head SET frontier = ?", (frontier.pack(),))


def _fourth(database: Database) -> None:
    """Tokens that were taken back before their end."""
    database.conn.execute(
        "CREATE TABLE revocation (key TEXT PRIMARY KEY, until INTEGER NOT NULL, data BLOB NOT NULL)"
        " STRICT, WITHOUT ROWID",
    )


def _fifth(database: Database) -> None:
    """The texts of policies. A release without them would also forget which of them is in force."""
    database.conn.execute("CREATE TABLE policy (digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID")


_STEPS: Final[tuple[Callable[[Database], None], ...]] = (_first, _second, _third, _fourth, _fifth)
