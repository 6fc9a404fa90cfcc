"""From a ledger's URL to a ledger."""

from __future__ import annotations

import os
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from afmiddleware.config.ledger_url import (
    MEMORY,
    MEMORY_SHARES_NOTHING,
    POSTGRES,
    SQLITE,
    parse_postgres,
    parse_redis,
)
from afmiddleware.config.limits import limits_of
from afmiddleware.errors import ConfigError, LedgerError
from afmiddleware.ledger import epoch_sqlite
from afmiddleware.ledger.archive_sqlite import SqliteShelf
from afmiddleware.ledger.chance import Supply
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.receipt_key import read_keys, read_signing_key
from afmiddleware.ledger.sqlite import SqliteLedger, SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.ledger.workers import one_process_only
from afmiddleware.model.limit import Unit
from afmiddleware.receipts.checkpoint import KeySigner
from afmiddleware.receipts.keys import ReceiptKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from afmiddleware.config.receipts_schema import Receipts
    from afmiddleware.config.schema import Config
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.archive import Shelf
    from afmiddleware.ledger.base import Ledger, Reader
    from afmiddleware.ledger.redis_rates import Rates
    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Conclusion, Entry, Held
    from afmiddleware.receipts.chain import Head
    from afmiddleware.receipts.checkpoint import Signer

SIGNING_FILE: Final = "fence.signing.pem"
KEY_FILE: Final = "fence.key"
"""Where the receipts' secret is, beside the policy, when the ledger is on a server and the policy names no other."""


def open_ledger(  # noqa: PLR0913 (what a ledger is made of)
    config: Config,
    base: Path,
    clock: Callable[[], int],
    undo: Callable[[Entry, Held], Conclusion],
    secret: bytes | None = None,
    signer: Signer | None = None,
    anchors: Anchors | None = None,
    rates: Rates | None = None,
) -> Ledger:
    """Open the ledger of a policy: in memory, of SQLite (its path relative to `base`) or on PostgreSQL.

    A PostgreSQL ledger goes by the database's clock and not by `clock`; `anchors` are where its mark goes, and `rates`
    are counted elsewhere. Raises `ConfigError` for another kind of URL, a driver that is not installed or a memory
    ledger under several workers, and what the ledger raises.
    """
    url, receipts = config.ledger, config.receipts
    secret = secret or receipt_secret(receipts)
    signer = signer or _signer(url, base, receipts)
    if url in MEMORY:
        one_process_only()
        return MemoryLedger(ReceiptKeys.derive(secret or os.urandom(32)), clock, Supply(), signer=signer)
    if url.startswith(POSTGRES):
        key = _key_on_server(base, receipts)
        opened = _postgres(config).PostgresLedger(
            parse_postgres(url),
            key,
            undo,
            secret=secret,
            signing=_signing_on_server(base, receipts),
            signer=signer,
            anchors=anchors,
            rates=rates,
        )
        return cast("Ledger", opened)
    place = locate(url, base, receipts)
    return SqliteLedger(place, clock, undo, secret=secret, signer=signer, anchors=anchors, rates=rates)


def open_for_fence(  # noqa: PLR0913 (what a fence's ledger is made of)
    config: Config,
    base: Path,
    clock: Callable[[], int],
    undo: Callable[[Entry, Held], Conclusion],
    signer: Signer | None,
    anchors: Anchors | None,
    secret: bytes | None = None,
) -> Ledger:
    """Open the ledger of a policy, and what it shares. Raises as `open_ledger` does."""
    rates = open_rates(config)
    if rates is not None:
        # Before the first request: a server that resets limits in silence is not started with.
        rates.check()
    return open_ledger(config, base, clock, undo, secret=secret, signer=signer, anchors=anchors, rates=rates)


def open_rates(config: Config) -> Rates | None:
    """The counters that several hosts share, `None` where a policy shares none. Nothing is asked of them yet.

    Raises `ConfigError` beside a ledger in memory, and for a driver that is not installed.
    """
    if config.rates is None:
        return None
    if config.ledger in MEMORY:
        raise ConfigError([f"{config.source}: {MEMORY_SHARES_NOTHING}"])
    module = _driver("redis_rates", ("redis", "hiredis"), config, "rates: redis", "redis")
    cells = [limit.cell for limit in limits_of(config) if limit.unit is not Unit.SPEND]
    return cast("Rates", module.Rates(parse_redis(config.rates), os.urandom, cells=cells))


def with_shared(config: Config, rows: dict[str, Row], keys: list[str]) -> dict[str, Row]:
    """Rows that were read of a ledger, with what is shared of them. Raises `LedgerUnavailableError`."""
    rates = open_rates(config)
    if rates is None:
        return rows
    with closing(rates):
        return rates.rows(rows, keys)


def receipt_secret(receipts: Receipts) -> bytes | None:
    """The secret of the receipts that the policy read from the environment, `None` where a file holds it."""
    secret = receipts.mac_key.secret if receipts.mac_key is not None else None
    return secret.get_secret_value() if secret is not None else None


def locate(url: str, base: Path, receipts: Receipts | None = None) -> Location:
    """Where the parts of an SQLite ledger are. Raises `ConfigError` for a URL that is none."""
    if not url.startswith(SQLITE) or len(url) == len(SQLITE):
        msg = (
            f"{url.partition('://')[0]!r} is not the beginning of a ledger on this host: use sqlite:///path/to/fence.db"
        )
        raise ConfigError([msg])
    key = receipts.mac_key.file if receipts is not None and receipts.mac_key is not None else None
    signing = receipts.signing_key.file if receipts is not None and receipts.signing_key is not None else None
    return Location.of(
        base / url.removeprefix(SQLITE), base / key if key else None, base / signing if signing else None
    )


def signing_file(config: Config, base: Path) -> Path:
    """The file of the key that signs the receipts of a policy. Raises `ConfigError` for a ledger in memory."""
    not_in_memory(config)
    if config.ledger.startswith(POSTGRES):
        return _signing_on_server(base, config.receipts)
    return locate(config.ledger, base, config.receipts).signing


def _signing_on_server(base: Path, receipts: Receipts) -> Path:
    named = receipts.signing_key.file if receipts.signing_key is not None else None
    return base / (named or SIGNING_FILE)


def _signer(url: str, base: Path, receipts: Receipts) -> Signer | None:
    """The signer that the policy names apart from where the ledger looks by itself."""
    named = receipts.signing_key
    if named is None:
        return None
    if named.secret is not None:
        return KeySigner.read(named.secret.get_secret_value())
    place = base / (named.file or "")
    return read_signing_key(place) if url in MEMORY and place.exists() else None


def check_place(config: Config, base: Path) -> None:
    """Raise `ConfigError` for a ledger that no command can make: one in memory, or in a folder that is not there.

    A command that made the folder would hand out keys of a ledger that no service opens, for a slip of the pen.
    """
    not_in_memory(config)
    if config.ledger.startswith(SQLITE):
        folder = locate(config.ledger, base).database.parent
        if not folder.is_dir():
            msg = f"{config.source}: the folder {folder} of the ledger is not there; make it, or correct ledger"
            raise ConfigError([msg])


def open_for_tools(config: Config, base: Path, clock: Callable[[], int] | None = None) -> Ledger:
    """Open the ledger of a policy for a command that reads, or changes keys, and admits nothing.

    It makes the ledger when there is none. Raises `ConfigError` as `check_place` does.
    """
    check_place(config, base)
    return open_ledger(config, base, clock or _no_clock, no_undo)


def open_for_reading(config: Config, base: Path) -> Reader:
    """Open the ledger of a policy as it is, changing nothing. Raises `ReceiptError` when there is none."""
    not_in_memory(config)
    if config.ledger.startswith(POSTGRES):
        return cast("Reader", _postgres(config).PostgresReader(parse_postgres(config.ledger)))
    return SqliteReader(locate(config.ledger, base, config.receipts))


def keys_for_reading(config: Config, base: Path) -> ReceiptKeys | None:
    """The keys of the receipts in the ledger of a policy, `None` without a key file. Raises `ReceiptError`."""
    if config.ledger.startswith(POSTGRES):
        place = _key_on_server(base, config.receipts)
    else:
        place = locate(config.ledger, base, config.receipts).key
    return read_keys(place, receipt_secret(config.receipts))


def make_way(config: Config, base: Path) -> tuple[Head, tuple[str, ...], str]:
    """Put an empty log in the place of that of a policy, which is copied: see `ledger.epoch_sqlite`."""
    if config.ledger.startswith(POSTGRES):
        found: tuple[Head, tuple[str, ...], str] = _postgres(config, "epoch_postgres").make_way(
            parse_postgres(config.ledger)
        )
        return found
    return epoch_sqlite.make_way(locate(config.ledger, base, config.receipts))


def open_shelf(url: str, base: Path) -> Shelf:
    """Where an export is read into: a ledger that is not there yet. Raises `ConfigError` and `ReceiptError`."""
    if url.startswith(POSTGRES):
        return cast("Shelf", _postgres(None, "archive_postgres").PostgresShelf(parse_postgres(url)))
    return SqliteShelf(locate(url, base).database)


def _key_on_server(base: Path, receipts: Receipts) -> Path:
    named = receipts.mac_key.file if receipts.mac_key is not None else None
    return base / (named or KEY_FILE)


def _postgres(config: Config | None, name: str = "postgres") -> Any:
    return _driver(name, ("psycopg", "psycopg_pool"), config, "ledger: postgresql", "postgres")


def _driver(name: str, packages: Collection[str], config: Config | None, wants: str, extra: str) -> Any:
    """A module of the ledger that needs packages of an extra. Raises `ConfigError` when one is not installed."""
    try:
        return import_module(f"afmiddleware.ledger.{name}")
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in packages:
            raise
        where = f"{config.source}: " if config is not None else ""
        msg = f"{where}{wants} needs {missing}, which is not installed: pip install 'afmiddleware[{extra}]'"
        raise ConfigError([msg]) from None


def not_in_memory(config: Config) -> None:
    """Raise `ConfigError` for a ledger that no other process can see."""
    if config.ledger in MEMORY:
        msg = f"{config.source}: a ledger in memory ends with its process and cannot be seen from here; use sqlite:///fence.db"
        raise ConfigError([msg])


def _no_clock() -> int:
    msg = "a ledger opened for tools makes no receipts"
    raise LedgerError(msg)


def no_undo(_entry: Entry, _held: Held) -> Conclusion:
    """For a ledger that admits nothing: there is nothing to undo."""
    msg = "a ledger opened for tools admits nothing"
    raise LedgerError(msg)
