"""Whether a ledger in memory would be one of several: each worker of a server would count for itself."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import Final

from afmiddleware.errors import ConfigError

_WORKERS: Final = re.compile(r" (?:--workers|-w)[ =]?([0-9]{1,4})(?= |$)")
_DIFFERS: Final = re.compile(rb"[0-9]+|\b(?:master|worker)\b")
_log = logging.getLogger("afmiddleware.ledger")


def one_process_only() -> None:
    """Raise `ConfigError` in a worker of a server that runs several, however that was told to.

    By `WEB_CONCURRENCY`; by the words that the server was started with, which it hands to its workers; and, on Linux,
    by the processes that the same server has started beside this one. `AFM_MEMORY_WORKERS=1` accepts it.
    """
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if workers.isdigit() and int(workers) > 1:
        several_workers(f"WEB_CONCURRENCY asks for {workers}")
    spawned = parent_process() is not None
    if not spawned and _told(os.getpid()) != _told(os.getppid()):
        return
    # A prefork server forks its workers, and others hand theirs the words that they were started with.
    asked = _WORKERS.search(" ".join([*sys.argv, os.environ.get("GUNICORN_CMD_ARGS", "")]))
    if asked is not None and int(asked[1]) > 1:
        several_workers(f"the server was started with {asked[0].strip()}")
    beside = _beside()
    if beside > 1:
        several_workers(f"the server runs {beside} processes like this one")
    if asked is None and spawned:
        _log.warning(
            "ledger: memory counts in this process alone, and another process has started it: with several workers "
            "every limit would be multiplied. Use sqlite:///fence.db for more than one"
        )


def several_workers(told: str) -> None:
    """Raise `ConfigError` for a ledger in memory of which, as `told`, several processes would each have their own.

    `AFM_MEMORY_WORKERS=1` accepts it.
    """
    if os.environ.get("AFM_MEMORY_WORKERS") != "1":
        msg = (
            f"ledger: memory counts in one process only, and {told}: every limit would be multiplied. "
            "Use sqlite:///fence.db, or set AFM_MEMORY_WORKERS=1 to accept it"
        )
        raise ConfigError([msg])


def _beside() -> int:
    """How many processes this one's parent has started like this one, itself among them; 1 where nobody can tell."""
    parent, own = os.getppid(), _told(os.getpid())
    children: list[str] = []
    with suppress(OSError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            children += (task / "children").read_text("ascii").split()
    return max(sum(_told(int(child)) == own for child in children), 1)


def _told(process: int) -> bytes:
    """The command line of a process without what differs between a server and its workers; its id if unknown."""
    with suppress(OSError):
        return _DIFFERS.sub(b"", Path(f"/proc/{process}/cmdline").read_bytes())
    return b"process %d" % process
