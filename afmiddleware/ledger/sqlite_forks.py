"""No connection to a file is open while its process forks.

SQLite remembers in memory which locks its process has on a file. A child inherits the memory and not the locks: what it
opened then would go unseen by everybody else, and its commits into a write-ahead log that another has removed.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.ledger.sqlite_taken import TakenError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from afmiddleware.ledger.committer import Answer, Writer
    from afmiddleware.model.entry import Item

PATIENCE: Final = 5.0
"""How long a fork waits until nothing uses the file any more, in seconds. A child forked before that has no ledger."""

_log = logging.getLogger("afmiddleware.ledger")


class Closable(Protocol):
    """What is open."""

    def close(self) -> None:
        """Let go of it, in whatever thread."""
        ...


class Forks:
    """What a process has open of one file: all is closed before it forks, and opened anew where it is used next.

    Whoever is inside `used` holds the fork up. `count` changes with every fork, in parent and child.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.count = 0
        self._patience = patience
        self._begin()
        if hasattr(os, "register_at_fork"):
            own: weakref.ref[Forks] = weakref.ref(self)
            os.register_at_fork(
                before=partial(_told, own, Forks._before),
                after_in_parent=partial(_told, own, Forks._in_parent),
                after_in_child=partial(_told, own, Forks._in_child),
            )

    def _begin(self) -> None:
        # The lock itself is entered in one step, which the handler of a signal cannot come in between.
        self._lock = threading.RLock()
        self._free = threading.Condition(self._lock)
        self._open: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._users: dict[int, int] = {}
        self._forking = 0
        self._kept = self._stranded = False

    def opened(self, one: Closable) -> None:
        """Note what has been opened, inside `used`."""
        with self._lock:
            self._open.add(one)

    def closed(self, one: Closable) -> None:
        """Forget what has been closed, inside `used`."""
        with self._lock:
            self._open.discard(one)

    @contextmanager
    def used(self) -> Generator[int]:
        """Hold forks up; the `count` of them. Raises `LedgerUnavailableError` where the parent used the file."""
        own = threading.get_ident()
        inside = False
        try:
            with self._lock:
                while self._forking and own not in self._users:
                    self._free.wait()
                if self._stranded:
                    msg = (
                        "this process was forked off while its parent used the ledger, and did not go on: start it anew"
                    )
                    raise LedgerUnavailableError(msg)
                self._users[own] = self._users.get(own, 0) + 1
                inside = True
            yield self.count
        finally:
            with self._lock:
                # None is left in a child that was forked off in here.
                left = self._users.pop(own, 1) - 1 if inside else self._users.get(own, 0)
                if left:
                    self._users[own] = left
                else:
                    self._free.notify_all()

    def anew(self) -> None:
        """Close all that is open, as before a fork: it is opened anew where it is used next."""
        self._before()
        self._in_parent()

    def _before(self) -> None:
        own = threading.get_ident()
        with self._lock:
            self._forking += 1
            self._kept = True
            free = self._free.wait_for(lambda: not self._users.keys() - {own}, self._patience)
            if free and own not in self._users:
                self.count += 1
                while self._open:
                    self._open.pop().close()
                self._kept = False

    def _in_parent(self) -> None:
        with self._lock:
            self._forking -= 1
            if not self._forking:
                self._kept = False
                self._free.notify_all()

    def _in_child(self) -> None:
        # Locks are in whatever state the parent's threads left them, and none of these threads is here.
        kept, stranded = self._kept, self._stranded
        self._begin()
        self._stranded = kept or stranded


class Reopened:
    """A writer that is closed before its process forks, and opened anew for what it is to write next."""

    def __init__(self, open_writer: Callable[[], Writer], forks: Forks) -> None:
        self._make = open_writer
        self._forks = forks
        with forks.used() as count:
            self._open(count)

    def write(self, items: Sequence[Item]) -> list[Answer]:
        """Commit the items in order."""
        try:
            with self._forks.used() as count:
                return self._current(count).write(items)
        except TakenError as error:
            self._leave(error)
            if not error.again:
                raise
        with self._forks.used() as count:
            return self._current(count).write(items)

    def rest(self) -> None:
        """Do what is due."""
        try:
            with self._forks.used() as count:
                self._current(count).rest()
        except TakenError as error:
            self._leave(error)

    def close(self, *, ending: bool) -> None:
        """Let go of the file."""
        with self._forks.used() as count:
            try:
                writer = self._current(count) if ending or count == self._at else None
            except AFError as error:
                _log.warning("the last counts were not recorded: %s", error)
                return
            self._forks.closed(self._left)
            if writer is not None:
                writer.close(ending=ending)

    def _leave(self, error: TakenError) -> None:
        _log.warning("%s; all is opened anew", error)
        with error.closing:
            self._forks.anew()

    def _current(self, count: int) -> Writer:
        if count != self._at:
            self._open(count)
        return self._left.writer

    def _open(self, count: int) -> None:
        self._left = _Left(self._make())
        self._forks.opened(self._left)
        self._at = count


class _Left:
    """A writer that its process goes on without for a moment."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def close(self) -> None:
        self.writer.close(ending=False)


def _told(forks: weakref.ref[Forks], what: Callable[[Forks], None]) -> None:
    alive = forks()
    if alive is not None:
        what(alive)
