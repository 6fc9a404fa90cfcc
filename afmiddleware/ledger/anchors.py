"""Taking the mark of a log to every place outside its database, off the path of requests.

Of the marks that wait for a place only the newest counts, so the queue of each is one mark long. A place that fails is
tried again with growing pauses, and said so once; whoever is to be stopped by it asks `gate`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.anchor import AnchorError, Place, Readable, check_mark
from afmiddleware.receipts.anchor import Anchor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.receipts.chain import Head

LONGEST_PAUSE: Final = 60.0
FIRST_PAUSE: Final = 0.5
DRAIN: Final = 10.0
"""How long `close` waits for the last marks to arrive, in seconds."""

_log = logging.getLogger("afmiddleware.ledger")


class AnchorState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a place.

    `size` is what was anchored there last by this process, `waiting` for how many seconds a mark has waited (0: none
    does), `failures` how often in a row it has failed and `error` why.
    """

    place: str
    size: int
    waiting: float
    failures: int
    error: str


class Anchors:
    """The places of a log's marks. `every` and `patience` are in seconds; with `required`, `gate` refuses.

    Threads begin with the first mark of a process, so that none is there before a fork.
    """

    def __init__(
        self,
        places: Sequence[Place],
        every: float,
        *,
        required: bool = False,
        patience: float = 60.0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = tuple(places)
        self.required = required
        self._patience = patience
        self._timer = timer
        self._senders = [_Sender(place, every, timer) for place in places]

    def due(self, head: Head, note: str = "") -> None:
        """Take note of the end of the log after a commit, with its signed note. Never waits for a place."""
        if head.size:
            for sender in self._senders:
                sender.offer(head, note)

    def gate(self) -> None:
        """Raises `LedgerUnavailableError` while a place that is required has not had its mark for too long."""
        if not self.required:
            return
        for state in self.states():
            if state.waiting > self._patience:
                told = state.error or "no answer"
                msg = f"the log was not anchored in {state.place} for {state.waiting:.0f} s: {told}"
                raise LedgerUnavailableError(msg, retry_after=int(LONGEST_PAUSE))

    def states(self) -> tuple[AnchorState, ...]:
        """How it stands with every place, seen from this process."""
        return tuple(sender.state() for sender in self._senders)

    def check(self, ledger: Readable) -> None:
        """Compare a ledger with every mark that can be had back. Raises `ReceiptError` when it is not all there.

        A place that cannot be read at the moment is logged; where the anchor is required, that is a `ReceiptError` too.
        """
        for place, mark in self.marks():
            if mark is not None:
                check_mark(mark, place.name, ledger)

    def marks(self) -> list[tuple[Place, Anchor | None]]:
        """The last mark of every place that gives it back."""
        found: list[tuple[Place, Anchor | None]] = []
        for place in self.places:
            if not place.readable:
                continue
            try:
                found.append((place, place.get()))
            except AnchorError as error:
                msg = f"the anchor {place.name} cannot be read: {error}"
                if self.required:
                    raise ReceiptError(msg) from error
                _log.error("%s; the log is not compared with it", msg)
        return found

    def newest(self) -> Anchor | None:
        """The mark that has seen the most, of those that can be had back."""
        return max((mark for _, mark in self.marks() if mark is not None), key=lambda mark: mark.size, default=None)

    def close(self) -> None:
        """Wait until the last marks have arrived, but not long. Idempotent."""
        for sender in self._senders:
            sender.end()
        end = self._timer() + DRAIN
        for sender in self._senders:
            sender.join(max(end - self._timer(), 0.0))


class _Sender:
    """One place, its one waiting mark, and its thread."""

    def __init__(self, place: Place, every: float, timer: Callable[[], float]) -> None:
        self._place = place
        self._every = every
        self._timer = timer
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._next: tuple[Head, str] | None = None
        self._since: float | None = None
        self._sent = 0
        self._failures = 0
        self._error = ""

    def offer(self, head: Head, note: str) -> None:
        if self._pid != os.getpid():
            # After a fork the thread is the parent's, and the lock in whatever state it left it.
            self._reset()
        with self._wake:
            if self._next is None:
                self._since = self._timer() if self._since is None else self._since
                self._wake.notify()
            self._next = head, note
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        """Begin the thread, or let the next mark do it: the commit that this one is of was made."""
        thread = threading.Thread(target=self._run, name="afmiddleware-anchor", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._error = str(error)
            _log.error("the anchor %s has no mark of this log: %s", self._place.name, error)
            return
        self._thread = thread

    def state(self) -> AnchorState:
        # Without the lock: the handler of a signal may raise in whoever asks, and would leave it locked.
        since = self._since
        waiting = self._timer() - since if since is not None else 0.0
        return AnchorState(
            place=self._place.name, size=self._sent, waiting=waiting, failures=self._failures, error=self._error
        )

    def end(self) -> None:
        if self._pid == os.getpid():
            with self._wake:
                self._ending = True
                self._wake.notify()

    def join(self, seconds: float) -> None:
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        thread.join(seconds)
        if thread.is_alive() or self._since is not None:
            _log.error("the last mark did not reach the anchor %s: %s", self._place.name, self._error or "no answer")

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._next is None:
                    if self._ending:
                        return
                    self._wake.wait()
                (head, note), self._next, began = self._next, None, self._timer()
            error = self._put(Anchor(head.log, head.size, head.leaf, note))
            with self._wake:
                self._book(head, note, began, error)
                if self._ending and error:
                    return
                pause = min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE) if error else self._every
                if not self._ending:
                    self._wake.wait_for(lambda: self._ending, pause)

    def _put(self, mark: Anchor) -> str:
        try:
            self._place.put(mark)
        except AnchorError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 (the thread must outlive a fault of a place)
            _log.exception("the anchor %s failed", self._place.name)
            return type(error).__name__
        return ""

    def _book(self, head: Head, note: str, began: float, error: str) -> None:
        if error:
            self._failures += 1
            self._error = error
            self._next = self._next or (head, note)
            if self._failures == 1:
                name, sent = self._place.name, self._sent
                _log.error("the anchor %s has had no mark of this log since receipt %d: %s", name, sent, error)
            return
        if self._failures:
            _log.warning("the anchor %s has the mark again, after %d failures", self._place.name, self._failures)
        self._failures, self._error, self._sent = 0, "", head.size
        self._since = began if self._next is not None else None
