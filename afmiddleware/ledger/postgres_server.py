"""One PostgreSQL server as a ledger's home: connections that fail in time, and the tables made ready."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from afmiddleware.errors import ConfigError, LedgerUnavailableError
from afmiddleware.ledger.postgres_schema import migrate
from afmiddleware.ledger.receipt_key import keys_of_log, new_log, signer_of_log
from afmiddleware.receipts.chain import NO_LEAF
from afmiddleware.receipts.merkle import Frontier, extend

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.config.ledger_url import PostgresUrl
    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.keys import ReceiptKeys

_log = logging.getLogger("afmiddleware.ledger")
_LONGEST_KEY: Final = 200
_PATIENCE: Final = 15
"""How long a process waits at its start for others that migrate or commit, in seconds."""


def connection_string(url: PostgresUrl, *, writes: bool = True) -> str:
    """What libpq connects with: dead peers are noticed, and of several hosts the one that takes writes is found.

    Raises `ConfigError` for an option that libpq does not know.
    """
    usual = {
        "connect_timeout": str(max(url.timeout, 2)),
        "application_name": "afmiddleware",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": str(url.timeout * 2000),
        "client_encoding": "utf8",
    }
    if writes:
        usual["target_session_attrs"] = "read-write"
    try:
        given = conninfo_to_dict(url.conninfo)
        return make_conninfo(url.conninfo, **{key: value for key, value in usual.items() if key not in given})
    except psycopg.ProgrammingError:
        # libpq's own words may repeat the URL, and with it a password.
        msg = f"the ledger {url.name} has an option that libpq does not know"
        raise ConfigError([msg]) from None


def connect(url: PostgresUrl) -> psycopg.Connection:
    """Open a connection for one thread, without a transaction. Raises `LedgerUnavailableError`."""
    try:
        connection = psycopg.connect(connection_string(url), autocommit=True)
        if not unpooled(connection):
            _log.info("%s is reached through a pooler: statements are not prepared", url.name)
    except psycopg.Error as error:
        msg = f"the ledger {url.name} cannot be reached: {said(error)}"
        raise LedgerUnavailableError(msg) from error
    return connection


def unpooled(connection: psycopg.Connection, timeout: int | None = None) -> bool:
    """Whether a new connection leads to the server itself; a statement of it may then take `timeout` seconds.

    A pooler such as PgBouncer names another process than the one that serves, for that serves many in turns. What they
    prepare has the same names, so nothing is prepared there, and no setting is made that the next one would inherit.
    """
    timed = "set_config('statement_timeout', %s, false)" if timeout is not None else "%s::text"
    asked = f"SELECT {timed} WHERE pg_backend_pid() = %s"
    own = connection.execute(asked, (f"{timeout}s", connection.info.backend_pid)).fetchone() is not None
    if not own:
        connection.prepare_threshold = None
    return own


def prepare(
    url: PostgresUrl,
    key: Path,
    secret: bytes | None = None,
    signing: Path | None = None,
    signer: Signer | None = None,
) -> ReceiptKeys:
    """Make the tables when there are none, migrate older ones, and read the keys of the receipts.

    `key` is the file with the receipts' secret and `signing` that of the key that signs; `secret` (32 bytes) and
    `signer` stand in for them. Key files are made only together with a new log. Raises `LedgerError`,
    `LedgerUnavailableError` and `ReceiptError`, each saying what to do.
    """
    head = sql.Identifier(url.schema, "head")
    with connect(url) as connection:
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_PATIENCE}s",))
                migrate(connection, url.schema)
                cursor.execute(sql.SQL("SELECT size, kid, signer, frontier FROM {} FOR UPDATE").format(head))
                found = cursor.fetchone()
                size, kid, public, frontier = found or (0, "", b"", b"")
                keys = keys_of_log(size, kid, key, secret, url.name)
                if found is None:
                    insert = sql.SQL("INSERT INTO {} VALUES (1, %s, 0, %s, 0, %s)").format(head)
                    cursor.execute(insert, (new_log(), NO_LEAF, keys.kid))
                elif not size and kid != keys.kid:
                    cursor.execute(sql.SQL("UPDATE {} SET kid = %s").format(head), (keys.kid,))
                if size and not frontier:
                    _plant(cursor, url.schema)
                place = signing or key.with_name(f"{key.stem}.signing.pem")
                signs = signer_of_log(size, bytes(public), place, signer, url.name)
                if signs is not None and signs.public != bytes(public):
                    cursor.execute(sql.SQL("UPDATE {} SET signer = %s").format(head), (signs.public,))
                    of_log = sql.Identifier(url.schema, "signing_key")
                    if not size:
                        cursor.execute(sql.SQL("DELETE FROM {}").format(of_log))
                    insert = sql.SQL("INSERT INTO {} (public, after, proof) VALUES (%s, %s, '')").format(of_log)
                    cursor.execute(insert, (signs.public, size))
                cursor.execute("SELECT current_setting('fsync'), current_setting('full_page_writes')")
                if cursor.fetchone() != ("on", "on"):
                    _log.warning("%s runs without fsync or full_page_writes: a crash of it loses receipts", url.name)
        except psycopg.Error as error:
            msg = f"the ledger {url.name} cannot be used: {said(error)}"
            raise LedgerUnavailableError(msg) from error
    return keys


def _plant(cursor: psycopg.Cursor, schema: str) -> None:
    """Make the tree of a log that was begun by a release without one."""

    def named(name: str) -> sql.Identifier:
        return sql.Identifier(schema, name)

    leaves = cursor.execute(sql.SQL("SELECT leaf FROM {} ORDER BY seq").format(named("receipt"))).fetchall()
    tree, nodes = extend(Frontier(), (bytes(leaf) for (leaf,) in leaves))
    cursor.executemany(
        sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(named("node")),
        [(node.level, node.index, node.hash) for node in nodes],
    )
    cursor.execute(sql.SQL("UPDATE {} SET frontier = %s").format(named("head")), (tree.pack(),))


def said(error: psycopg.Error) -> str:
    """A fault in one line, with its SQLSTATE where the server gave one. The server's words go before the driver's."""
    if error.sqlstate is None and isinstance(error.__context__, psycopg.Error):
        return said(error.__context__)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text} ({error.sqlstate})" if error.sqlstate else text


def row_key(key: str) -> bytes:
    """How a key is stored: itself, or its SHA-256 where an index could not hold it. No key begins with a NUL itself."""
    plain = key.encode("utf-8", "surrogatepass")
    if len(plain) <= _LONGEST_KEY and not plain.startswith(b"\0"):
        return plain
    return b"\0" + hashlib.sha256(plain).digest()
