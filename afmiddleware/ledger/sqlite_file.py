"""One SQLite ledger file: opening it safely, its lock beside it, its receipt key beside it."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec
from sqlite_utils import Database

from afmiddleware.errors import LedgerError, LedgerUnavailableError
from afmiddleware.ledger.receipt_key import keys_of_log, new_log, signer_of_log
from afmiddleware.ledger.schema import migrate
from afmiddleware.receipts.chain import NO_LEAF

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock is enough for correctness, the sidecar only makes it fair
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from afmiddleware.receipts.checkpoint import Signer
    from afmiddleware.receipts.keys import ReceiptKeys

BUSY_MS: Final = 1500
_POLLED: Final = 0.02


class Location(msgspec.Struct, frozen=True):
    """Where a ledger's parts are: the database, the secret its receipts are authenticated by, the key that signs it."""

    database: Path
    key: Path
    signing: Path

    @classmethod
    def of(cls, database: Path, key: Path | None = None, signing: Path | None = None) -> Location:
        """The usual places: the keys beside the database, as `<name>.key` and `<name>.signing.pem`."""
        beside = database.with_name
        return cls(database, key or beside(database.name + ".key"), signing or beside(database.name + ".signing.pem"))


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open a connection for one thread, durable at every commit. Raises `LedgerUnavailableError`."""
    try:
        connection = _connect(path, "mode=rwc" if create else "mode=rw")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous = FULL")
        # The writers fold the log back, under the lock: with several processes that is the safe moment.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA secure_delete = ON")
        full = connection.execute("PRAGMA synchronous").fetchone()[0]
    except sqlite3.Error as error:
        msg = f"the ledger {path} cannot be opened: {error}"
        raise LedgerUnavailableError(msg) from error
    if journal != "wal" or full != 2:  # noqa: PLR2004 (FULL)
        connection.close()
        msg = f"the ledger {path} cannot be made durable here (journal {journal}): use a local file system"
        raise LedgerError(msg)
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a connection for one thread that only reads, also where this process may write nothing.

    Raises `LedgerUnavailableError`, too where commits that are not in the database file yet would be left out.
    """
    try:
        return connect(path)
    except LedgerUnavailableError:
        if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
            raise
    beside = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    # Without files beside it nobody is using it, so it needs no lock; with them SQLite reads what they say.
    mode = "mode=ro" if any(one.exists() for one in beside) else "mode=ro&immutable=1"
    try:
        connection = _connect(path, mode)
        connection.execute("SELECT size FROM head").fetchone()
    except sqlite3.Error as error:
        msg = (
            f"the ledger {path} cannot be read where nothing can be written: {error}; "
            f"copy {path.name} and {path.name}-wal together to a folder of your own, and read it there"
        )
        raise LedgerUnavailableError(msg) from error
    return connection


class _Connection(sqlite3.Connection):
    """One that can be referred to weakly: a thread that forks closes those of the others."""


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, factory=_Connection)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """One write transaction: committed at the end, rolled back whole on any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Queue:
    """The lock file beside the database. Processes wait in it in turn, where SQLite's own lock would starve some."""

    def __init__(self, database: Path) -> None:
        self._fd = os.open(database.with_name(database.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def turn(self, within: float | None = None) -> Generator[None]:
        """Wait for the turn of this process, and end it. Raises `TimeoutError` when it does not come in seconds."""
        self._take(within)
        try:
            yield
        finally:
            if fcntl is not None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _take(self, within: float | None) -> None:
        if fcntl is not None:
            until = time.monotonic() + within if within is not None else 0.0
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(self._fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if until else 0))
                    return
                if time.monotonic() > until:
                    raise TimeoutError("another process holds the lock of this ledger, and does not go on")
                time.sleep(_POLLED)

    def close(self) -> None:
        """Let go of the lock file."""
        os.close(self._fd)


def prepare(
    location: Location, secret: bytes | None = None, signer: Signer | None = None, within: float = 10.0
) -> ReceiptKeys:
    """Make the ledger when there is none, migrate it when it is older, and read the keys of its receipts.

    A peer that holds the lock and does not go on is waited for `within` seconds.
    `secret` (32 bytes) and `signer` stand in for the key files. Those are only made together with a new log. Raises
    `LedgerError`, `LedgerUnavailableError` and `ReceiptError`, each saying what to do.
    """
    database = location.database
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        queue = Queue(database)
        _make_private(database)
    except OSError as error:
        msg = f"the ledger {database} cannot be opened: {error.strerror}"
        raise LedgerUnavailableError(msg) from error
    try:
        with queue.turn(within):
            connection = connect(database, create=True)
            try:
                return _prepare(connection, location, secret, signer)
            except sqlite3.Error as error:
                msg = f"{database} is not a usable ledger: {error}"
                raise LedgerError(msg) from error
            finally:
                connection.close()
    except TimeoutError as error:
        msg = f"the ledger {database} cannot be opened: {error}"
        raise LedgerUnavailableError(msg) from error
    finally:
        queue.close()


def _make_private(database: Path) -> None:
    """Make the file when there is none, for its owner's eyes: it holds values that are kept out of the receipts.

    SQLite gives the files beside it (`-wal`, `-shm`) the same mode. One that is there keeps the mode it was given.
    """
    with suppress(FileExistsError):
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _prepare(
    connection: sqlite3.Connection,
    location: Location,
    secret: bytes | None,
    signer: Signer | None,
) -> ReceiptKeys:
    with transaction(connection):
        migrate(Database(connection))
        head = connection.execute("SELECT size, kid, signer FROM head").fetchone()
        size, kid, public = head or (0, "", b"")
        keys = keys_of_log(size, kid, location.key, secret, str(location.database))
        if head is None:
            connection.execute(
                "INSERT INTO head (id, log, size, leaf, ts, kid) VALUES (1, ?, 0, ?, 0, ?)",
                (new_log(), NO_LEAF, keys.kid),
            )
        elif not size and kid != keys.kid:
            connection.execute("UPDATE head SET kid = ? WHERE size = 0", (keys.kid,))
        found = signer_of_log(size, public, location.signing, signer, str(location.database))
        if found is not None and found.public != public:
            if not size:
                connection.execute("DELETE FROM signing_key")
            connection.execute("UPDATE head SET signer = ?", (found.public,))
            connection.execute("INSERT INTO signing_key VALUES (?, ?, x'')", (found.public, size))
        return keys
