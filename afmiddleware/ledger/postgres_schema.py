"""The tables of a PostgreSQL ledger, and how those of an older version become those of this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from afmiddleware.errors import LedgerError

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

VERSION: Final = 5
"""The version of the tables, kept in `meta`; migrations only go forward."""

_LOCK: Final = 0x61666D  # every ledger of a database migrates in turn


def migrate(connection: Connection, schema: str) -> None:
    """Bring the tables in `schema` to `VERSION`, inside the caller's transaction.

    Tables that are up to date are not touched, so a role without the right to make any can start. Raises `LedgerError`
    for tables of a newer release.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, schema))
        found = _version(cursor, schema)
        if found > VERSION:
            msg = f"the ledger's tables have version {found}, this release knows {VERSION}: upgrade afmiddleware"
            raise LedgerError(msg)
        for step in _STEPS[found:]:
            for statement in step:
                cursor.execute(sql.SQL(statement).format(schema=sql.Identifier(schema)))
        if found < VERSION:
            statement = "UPDATE {schema}.meta SET version = %s"
            cursor.execute(sql.SQL(statement).format(schema=sql.Identifier(schema)), (VERSION,))


def _version(cursor: Cursor, schema: str) -> int:
    there = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.meta",)).fetchone()
    if there is None or not there[0]:
        return 0
    row = cursor.execute(sql.SQL("SELECT version FROM {}.meta").format(sql.Identifier(schema))).fetchone()
    return int(row[0]) if row is not None else 0


# Keys are bytes: a caller's name may hold what PostgreSQL's text cannot, and bytes sort the same everywhere.
# `fillfactor` leaves room for a row's next version on its own page.
_FIRST: Final[tuple[LiteralString, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    "CREATE TABLE {schema}.meta (version integer NOT NULL)",
    "INSERT INTO {schema}.meta VALUES (0)",
    (
        "CREATE TABLE {schema}.head (id integer PRIMARY KEY CHECK (id = 1), log text NOT NULL, size bigint NOT NULL,"
        " leaf bytea NOT NULL, ts bigint NOT NULL, kid text NOT NULL) WITH (fillfactor = 50)"
    ),
    "CREATE TABLE {schema}.counter (key bytea PRIMARY KEY, data bytea NOT NULL) WITH (fillfactor = 60)",
    (
        "CREATE TABLE {schema}.hold (id text PRIMARY KEY, state text NOT NULL, created bigint NOT NULL,"
        " keys bytea[] NOT NULL, data bytea NOT NULL) WITH (fillfactor = 80)"
    ),
    "CREATE INDEX hold_open ON {schema}.hold (state, created) WHERE state IN ('held', 'unknown')",
    (
        "CREATE TABLE {schema}.receipt (seq bigint PRIMARY KEY, body bytea NOT NULL, leaf bytea NOT NULL,"
        " mac bytea NOT NULL, kind text NOT NULL, decision text NOT NULL, capability text NOT NULL,"
        " verdict text NOT NULL, code text NOT NULL, ts bigint NOT NULL, disclosed bytea)"
    ),
    "CREATE INDEX receipt_decision ON {schema}.receipt (decision)",
    (
        "CREATE TABLE {schema}.api_key (id text PRIMARY KEY, account text NOT NULL, created bigint NOT NULL,"
        " data bytea NOT NULL)"
    ),
)

_SECOND: Final[tuple[LiteralString, ...]] = (
    "CREATE TABLE {schema}.lease (holder bigint PRIMARY KEY, until bigint NOT NULL)",
    "CREATE TABLE {schema}.claim (key text PRIMARY KEY, expires bigint NOT NULL, data bytea NOT NULL)",
    "ALTER TABLE {schema}.hold ADD COLUMN due bigint NOT NULL DEFAULT 0",
    "CREATE INDEX hold_due ON {schema}.hold (due) WHERE due > 0",
    "CREATE INDEX hold_created ON {schema}.hold (created)",
    "CREATE INDEX claim_expires ON {schema}.claim (expires)",
)

# The tree over the leaves, and the signatures of it. `prepare` makes the tree of a log that has begun.
_THIRD: Final[tuple[LiteralString, ...]] = (
    "ALTER TABLE {schema}.head ADD COLUMN frontier bytea NOT NULL DEFAULT ''",
    "ALTER TABLE {schema}.head ADD COLUMN signer bytea NOT NULL DEFAULT ''",
    ("CREATE TABLE {schema}.node (level integer, place bigint, hash bytea NOT NULL, PRIMARY KEY (level, place))"),
    "CREATE TABLE {schema}.checkpoint (size bigint PRIMARY KEY, note text NOT NULL)",
    (
        "CREATE TABLE {schema}.signing_key (public bytea PRIMARY KEY, after bigint NOT NULL, proof bytea NOT NULL,"
        " id bigint GENERATED ALWAYS AS IDENTITY)"
    ),
)

# Tokens that were taken back before their end.
_FOURTH: Final[tuple[LiteralString, ...]] = (
    "CREATE TABLE {schema}.revocation (key text PRIMARY KEY, until bigint NOT NULL, data bytea NOT NULL)",
)

# The texts of policies. A release without them would also forget which of them is in force.
_FIFTH: Final[tuple[LiteralString, ...]] = (
    "CREATE TABLE {schema}.policy (digest text PRIMARY KEY, data bytea NOT NULL)",
)

_STEPS: Final[tuple[tuple[LiteralString, ...], ...]] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
