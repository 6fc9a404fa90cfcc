"""From a ledger's URL to a ledger."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import ConfigError, LedgerError
from afmiddleware.ledger.anchor import AnchorFile
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.sqlite import SqliteLedger, SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.receipts.keys import ReceiptKeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from afmiddleware.config.schema import Config, Receipts
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model.entry import Conclusion, Entry, Held

MEMORY: Final = ("memory", "memory:")
_SQLITE: Final = "sqlite:///"


def open_ledger(  # noqa: PLR0913 (what a ledger is made of)
    url: str,
    base: Path,
    receipts: Receipts,
    clock: Callable[[], int],
    undo: Callable[[Entry, Held], Conclusion],
    secret: bytes | None = None,
) -> Ledger:
    """Open `memory` or `sqlite:///path` (relative to `base`; four slashes for an absolute path).

    Raises `ConfigError` for another kind of URL or a memory ledger under several workers, and what the ledger raises.
    """
    secret = secret or receipt_secret(receipts)
    if url in MEMORY:
        _one_process_only()
        return MemoryLedger(ReceiptKeys.derive(secret or os.urandom(32)), clock, os.urandom)
    mark = receipts.anchor
    anchor = AnchorFile(base / mark.file, mark.every * 1_000_000) if mark is not None else None
    return SqliteLedger(locate(url, base, receipts), clock, undo, secret=secret, anchor=anchor)


def receipt_secret(receipts: Receipts) -> bytes | None:
    """The secret of the receipts that the policy read from the environment, `None` where a file holds it."""
    secret = receipts.mac_key.secret if receipts.mac_key is not None else None
    return secret.get_secret_value() if secret is not None else None


def locate(url: str, base: Path, receipts: Receipts | None = None) -> Location:
    """Where the parts of an SQLite ledger are. Raises `ConfigError` for a URL that is none."""
    if not url.startswith(_SQLITE) or len(url) == len(_SQLITE):
        msg = f"{url!r} is not a ledger: use memory or sqlite:///path/to/fence.db"
        raise ConfigError([msg])
    key = receipts.mac_key.file if receipts is not None and receipts.mac_key is not None else None
    return Location.of(base / url.removeprefix(_SQLITE), base / key if key else None)


def _one_process_only() -> None:
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if workers.isdigit() and int(workers) > 1 and os.environ.get("AFM_MEMORY_WORKERS") != "1":
        msg = (
            f"ledger: memory counts in one process only, and WEB_CONCURRENCY asks for {workers}: every limit would be "
            "multiplied. Use sqlite:///fence.db, or set AFM_MEMORY_WORKERS=1 to accept it"
        )
        raise ConfigError([msg])


def open_for_tools(config: Config, base: Path) -> SqliteLedger:
    """Open the ledger of a policy for a command that reads, or changes keys, and admits nothing.

    It makes the ledger when there is none. Raises `ConfigError` for one in memory, which no other process can see.
    """
    return SqliteLedger(_on_disk(config, base), _no_clock, _no_undo, secret=receipt_secret(config.receipts))


def open_for_reading(config: Config, base: Path) -> SqliteReader:
    """Open the ledger of a policy as it is, changing nothing. Raises `ReceiptError` when there is none."""
    return SqliteReader(_on_disk(config, base))


def _on_disk(config: Config, base: Path) -> Location:
    if config.ledger in MEMORY:
        msg = f"{config.source}: a ledger in memory ends with its process and cannot be seen from here; use sqlite:///fence.db"
        raise ConfigError([msg])
    return locate(config.ledger, base, config.receipts)


def _no_clock() -> int:
    msg = "a ledger opened for tools makes no receipts"
    raise LedgerError(msg)


def _no_undo(_entry: Entry, _held: Held) -> Conclusion:
    msg = "a ledger opened for tools admits nothing"
    raise LedgerError(msg)
