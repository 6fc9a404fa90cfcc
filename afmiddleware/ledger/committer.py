"""Group commit: many callers, one writer thread, one transaction for all that wait.

Nothing is delayed on purpose: the writer takes whatever has gathered while the last transaction ran. Answers are
released only after the transaction has returned.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from afmiddleware.errors import AFError, LedgerUnavailableError
from afmiddleware.model.entry import Closed, Conclusion, Entry, Held, InForce, Item, Order, Ping, Record, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Answer = Held | Closed | AFError

MAX_BATCH: Final = 256
MAX_WAITING: Final = 8192
DEADLINE: Final = 2.0
"""How long a caller waits for its commit, in seconds, before it is answered that the ledger is unavailable."""


RESTS: Final = 10.0
"""How often the writer looks after what is due when nothing waits, in seconds."""


class CommitUnknownError(LedgerUnavailableError):
    """The connection was lost during a commit, so it may have been made. `answers` are those it would have given."""

    def __init__(self, message: str, answers: Sequence[Answer]) -> None:
        self.answers = answers
        super().__init__(message)


class Writer(Protocol):
    """What the thread drives. `write` makes one transaction and answers every item; it raises only `LedgerError`."""

    def write(self, items: Sequence[Item]) -> list[Answer]:
        """Commit the items in order."""
        ...

    def rest(self) -> None:
        """Do what is due although nothing waits; called every few seconds. It raises only `LedgerError`."""
        ...

    def close(self, *, ending: bool) -> None:
        """Let go of what the thread holds; `ending` says that this process writes no more."""
        ...


class Waiter:
    """A thread that waits for one answer. The handler of a signal may raise in it at any place, and leaves no lock."""

    __slots__ = ("_answer", "_gate")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, seconds: float) -> Answer | None:
        """The answer, `None` when none has come in time."""
        return self._answer if self._gate.acquire(timeout=seconds) else None

    def answered(self, answer: Answer) -> None:
        """Let it go on, once."""
        self._answer = answer
        self._gate.release()


class Ticket:
    """One item on its way through the writer. `answer` and `abandoned` change under the committer's lock."""

    __slots__ = ("abandoned", "answer", "item", "loop", "waiter")

    def __init__(self, item: Item, waiter: object, loop: asyncio.AbstractEventLoop | None) -> None:
        self.item = item
        self.waiter = waiter
        self.loop = loop
        self.abandoned = False
        self.answer: Answer | None = None


class Committer:
    """Hands items to a writer thread of this process and brings the answers back to threads and event loops.

    `open_writer` is called in the thread, so that a connection never crosses threads or forks. `undo` makes the
    conclusion of an admission whose caller has stopped waiting: its handler never runs. `gate` is asked before an
    entry or a ping is taken, and raises when none may be.
    """

    def __init__(  # noqa: PLR0913 (what a committer is made of)
        self,
        open_writer: Callable[[], Writer],
        undo: Callable[[Entry, Held], Conclusion],
        *,
        deadline: float = DEADLINE,
        max_waiting: int = MAX_WAITING,
        gate: Callable[[], None] | None = None,
        rests: float = RESTS,
    ) -> None:
        self._open = open_writer
        self._undo = undo
        self._deadline = deadline
        self._max_waiting = max_waiting
        self._rests = rests
        self._gate = gate
        self._reset()
        if hasattr(os, "register_at_fork"):
            # Before any thread of the child: two that found out for themselves would undo each other's beginning.
            os.register_at_fork(after_in_child=partial(_forked, weakref.ref(self)))

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[Ticket] = deque()
        # The handler of a signal may raise in whoever enters a condition, and leave it locked for ever. A lock is taken
        # in one step.
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._running = threading.Lock()
        self._closing = False
        self._idle = False
        self._faults = 0

    def commit(self, item: Item) -> Held | Closed:
        """Commit and wait. Raises `LedgerUnavailableError` when it was not done within the deadline."""
        waiter = Waiter()
        ticket = Ticket(item, waiter, None)
        try:
            self._put(ticket)
            answer = waiter.wait(self._deadline)
        except BaseException:
            # A signal's handler has raised: a server or a queue has given the caller up.
            self._abandon(ticket)
            raise
        if answer is None:
            self._abandon(ticket)
            raise LedgerUnavailableError(_LATE)
        return _unwrap(answer)

    async def acommit(self, item: Item) -> Held | Closed:
        """Commit and wait without blocking the event loop. Raises as `commit` does."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        ticket = self._put(Ticket(item, waiter, loop))
        late = loop.call_later(self._deadline, self._too_late, ticket, waiter)
        try:
            return _unwrap(await waiter)
        except (asyncio.CancelledError, GeneratorExit):
            self._abandon(ticket)
            raise
        finally:
            late.cancel()

    def post(self, item: Item) -> None:
        """Hand over without waiting. What is handed over is written before `close` returns."""
        self._put(Ticket(item, None, None))

    def close(self) -> None:
        """Write what still waits, then end the thread."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_DRAIN)
            if self._running.locked():
                _log.error("the ledger did not finish writing in %d s", _DRAIN)

    def _put(self, ticket: Ticket) -> Ticket:
        if self._gate is not None and isinstance(ticket.item, Entry | Ping):
            self._gate()
        with self._lock:
            if self._closing:
                msg = "the ledger is closed"
                raise LedgerUnavailableError(msg)
            if len(self._waiting) >= self._max_waiting and isinstance(ticket.item, Entry | Ping):
                msg = f"{len(self._waiting)} commits are waiting already"
                raise LedgerUnavailableError(msg)
            self._waiting.append(ticket)
            if not self._running.locked():
                self._start(ticket)
            elif self._idle:
                self._wake.notify()
                self._idle = False
        return ticket

    def _start(self, ticket: Ticket) -> None:
        """Begin the thread, for the first item or after a signal or a want of threads has kept it from beginning."""
        thread = self._thread = threading.Thread(target=self._run, name="afmiddleware-ledger", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            self._waiting.remove(ticket)
            msg = f"the ledger's writer cannot begin: {error}"
            raise LedgerUnavailableError(msg) from error

    def _too_late(self, ticket: Ticket, waiter: asyncio.Future[Answer]) -> None:
        if not waiter.done():
            self._abandon(ticket)
            waiter.set_result(LedgerUnavailableError(_LATE))

    def _abandon(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.abandoned = True
            if ticket.answer is not None:
                self._undo_if_admitted(ticket)

    def _undo_if_admitted(self, ticket: Ticket) -> None:
        undone = self._undone([ticket], [ticket.answer])
        if undone:
            self._waiting.extend(undone)
            self._wake.notify()

    def _undone(self, batch: Sequence[Ticket], answers: Sequence[Answer | None]) -> list[Ticket]:
        """The conclusions of what was admitted although nobody will act on it; without effect where nothing was."""
        found: list[Ticket] = []
        for ticket, held in zip(batch, answers, strict=True):
            entry = ticket.item
            if not (isinstance(entry, Entry) and isinstance(held, Held)) or held.receipt is None:
                continue
            if held.verdict.authorized or entry.observe:
                each = zip((entry, *entry.others), (held, *held.others), strict=True)
                found.extend(Ticket(self._undo(one, its), None, None) for one, its in each)
        return found

    def _take(self) -> list[Ticket] | None:
        """The next batch, an empty one when nothing came for a while, or `None` when there is nothing more to come."""
        with self._lock:
            while not self._waiting:
                if self._closing:
                    return None
                self._idle = True
                if not self._wake.wait(self._rests):
                    return []
            batch: list[Ticket] = []
            while self._waiting and len(batch) < MAX_BATCH:
                ticket = self._waiting.popleft()
                # Nobody waits for this any more: an admission must not be charged, an order was told to have failed.
                if not (ticket.abandoned and isinstance(ticket.item, Entry | Order | Record)):
                    batch.append(ticket)
            return batch

    def _run(self) -> None:
        # One that began while another could not be told to have begun is one too many.
        if not self._running.acquire(blocking=False):
            return
        self._thread = threading.current_thread()
        try:
            self._serve()
        finally:
            self._running.release()

    def _serve(self) -> None:
        writer: Writer | None = None
        rested = time.monotonic()
        while (batch := self._take()) is not None:
            if batch:
                writer = self._write(writer, batch)
            if writer is not None and (not batch or time.monotonic() - rested >= self._rests):
                rested = time.monotonic()
                writer = self._rest(writer)
        if writer is not None:
            writer.close(ending=True)

    def _write(self, writer: Writer | None, batch: list[Ticket]) -> Writer | None:
        try:
            if writer is None:
                writer = self._open()
            answers = writer.write([ticket.item for ticket in batch])
        except CommitUnknownError as error:
            self._fail(batch, error, self._undone(batch, error.answers))
        except AFError as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 (the thread must outlive a fault in one batch; nothing of it was committed)
            _log.exception("the ledger's writer failed")
            if len(batch) > 1:
                # One of them it cannot write, and the others must not wait for that.
                return self._apart(writer, batch)
            # The system may be short of something; whatever else it is would come back for ever.
            passing = isinstance(error, OSError | MemoryError)
            fault = LedgerUnavailableError(f"the ledger's writer failed: {type(error).__name__}")
            self._fail(batch, fault, again=passing)
        else:
            self._faults = 0
            with self._lock:
                for ticket, answer in zip(batch, answers, strict=True):
                    ticket.answer = answer
                    if ticket.abandoned:
                        self._undo_if_admitted(ticket)
            _deliver(batch, answers)
            return writer
        if writer is not None:
            writer.close(ending=False)
        return None

    def _apart(self, writer: Writer | None, batch: list[Ticket]) -> Writer | None:
        """Write each of a batch by itself, after a fault that is one of theirs and not the store's."""
        if writer is not None:
            writer.close(ending=False)
        writer = None
        for ticket in batch:
            writer = self._write(writer, [ticket])
        return writer

    def _rest(self, writer: Writer) -> Writer | None:
        try:
            writer.rest()
        except Exception:  # noqa: BLE001 (the thread must outlive it)
            _log.exception("the ledger's writer failed while nothing was to be written")
            writer.close(ending=False)
            return None
        return writer

    def _fail(self, batch: list[Ticket], error: AFError, undone: Sequence[Ticket] = (), *, again: bool = True) -> None:
        """Answer a batch that was not committed; `again` lets what nobody waits for be written later."""
        _log.error("the ledger did not commit: %s", error)
        lasting = [
            ticket
            for ticket in batch
            if ticket.waiter is None and isinstance(ticket.item, Conclusion | Settle | Record | InForce)
        ]
        if not again and lasting:
            _log.error("what cannot be written is given up; a reservation it was to settle stays held")
        waiting = [*(lasting if again else ()), *undone]
        with self._lock:
            for ticket in batch:
                ticket.answer = error
            if waiting and self._closing:
                _log.error("%d outcomes were not recorded; their reservations stay held", len(waiting))
            elif waiting:
                # An outcome must not be lost to a passing fault: it goes back to the head of the queue.
                self._waiting.extendleft(reversed(waiting))
        _deliver(batch, [error] * len(batch))
        if waiting:
            with self._lock:
                self._idle = True
                self._wake.wait(_RETRY * 2 ** min(self._faults, _DOUBLED))
            self._faults += 1


def _forked(committer: weakref.ref[Committer]) -> None:
    """After a fork there is no thread, and locks are in whatever state the parent's threads left them."""
    alive = committer()
    if alive is not None:
        alive._reset()  # noqa: SLF001 (of this file)


_RETRY: Final = 0.2
"""How long what nobody waits for rests after a fault, in seconds, if nothing comes; then twice as long each time."""
_DOUBLED: Final = 5
_DRAIN: Final = 10
_log = logging.getLogger("afmiddleware.ledger")
_LATE = "the commit took longer than its deadline"


def _unwrap(answer: Answer) -> Held | Closed:
    if isinstance(answer, AFError):
        raise answer
    return answer


def _deliver(batch: Sequence[Ticket], answers: Sequence[Answer]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Answer]]] = {}
    for ticket, answer in zip(batch, answers, strict=True):
        if isinstance(ticket.waiter, Waiter):
            ticket.waiter.answered(answer)
        elif ticket.loop is not None:
            loops.setdefault(ticket.loop, []).append((ticket, answer))
    for loop, answered in loops.items():
        # A loop that has closed has nobody waiting on it any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: Sequence[tuple[Ticket, Answer]]) -> None:
    for ticket, answer in answered:
        waiter = ticket.waiter
        if isinstance(waiter, asyncio.Future) and not waiter.done():
            waiter.set_result(answer)
