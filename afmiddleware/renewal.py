"""What a process does whose policy was superseded by another process: it reads its file again, and decides again.

One reading serves all requests that wait for it, in a thread of its own, so that it blocks no event loop. What the file
says is then what counts: when that is superseded too, nothing is decided until the file is another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, cast

from msgspec.structs import replace

from afmiddleware.errors import ConfigError, StalePolicyError
from afmiddleware.reload import unchanged

if TYPE_CHECKING:
    from afmiddleware.fence import Fence
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model.entry import Entry, Held
    from afmiddleware.model.receipt import Draft
    from afmiddleware.model.verdict import Verdict

AGAIN_AFTER: Final = 1_000_000
"""How long after a reading in vain the file is not read again, in microseconds."""

SUPERSEDED: Final = "policy:superseded"
"""The flag of what was decided by a superseded policy all the same, because that only observes."""

_log = logging.getLogger("afmiddleware")


class Renewal:
    """Reads the policy of a fence again when the ledger answers that it is superseded.

    `behind` is the digest of the file and lists that are known to be superseded although they were read again, empty
    while none is. Safe in threads and event loops, and after a fork.
    """

    def __init__(self, fence: Fence) -> None:
        self._fence = weakref.ref(fence)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._reading: Future[None] | None = None
        self.behind = ""
        self._until = 0

    def renew(self, error: StalePolicyError) -> bool:
        """Whether the request is to be decided again, blocking while the policy is read."""
        fence = self._fence()
        if fence is not None and not self._settled(fence, error):
            self._read(fence, error).result()
        return self._again(fence, error)

    async def arenew(self, error: StalePolicyError) -> bool:
        """`renew` without blocking the event loop."""
        fence = self._fence()
        if fence is not None and not self._settled(fence, error):
            await asyncio.wrap_future(self._read(fence, error))
        return self._again(fence, error)

    def commit(self, ledger: Ledger, entry: Entry) -> Held:
        """Commit an entry of a process that is behind: one that only observes is decided all the same, and flagged."""
        asked = self._excused(entry)
        held = ledger.commit(asked)
        self._caught_up(asked)
        return cast("Held", held)

    async def acommit(self, ledger: Ledger, entry: Entry) -> Held:
        """`commit` without blocking the event loop."""
        asked = self._excused(entry)
        held = await ledger.acommit(asked)
        self._caught_up(asked)
        return cast("Held", held)

    def _excused(self, entry: Entry) -> Entry:
        fence = self._fence()
        if fence is None or entry.policy != self.behind or not entry.observe or fence.clock() >= self._until:
            return entry
        others = tuple(_flagged(one) for one in entry.others)
        return replace(_flagged(entry), others=others)

    def _caught_up(self, entry: Entry) -> None:
        """Take it back that the process is behind, after the ledger has decided by its policy, or by a newer one."""
        fence = self._fence()
        if fence is None or not entry.policy:
            return
        behind, self.behind = self.behind, ""
        if entry.policy == behind:
            fence.standing = replace(fence.standing, superseded_by="", generation=0)
            _log.warning("policy %s decides again", entry.policy[:16])

    def _settled(self, fence: Fence, error: StalePolicyError) -> bool:
        """Whether nothing has to be read: another policy is there already, or was looked for a moment ago."""
        return fence.plan.file != error.policy or (self.behind == error.policy and fence.clock() < self._until)

    def _again(self, fence: Fence | None, error: StalePolicyError) -> bool:
        return fence is not None and (fence.plan.file != error.policy or error.observe)

    def _read(self, fence: Fence, error: StalePolicyError) -> Future[None]:
        if self._pid != os.getpid():
            # After a fork there is no thread that reads, and the lock is in whatever state it was.
            self._reset()
        with self._lock:
            found = self._reading
            if found is None or found.done():
                found = self._reading = Future()
                # Whoever is cancelled while it waits must not cancel it for the others.
                found.set_running_or_notify_cancel()
                threading.Thread(
                    target=self._look, args=(fence, error, found), name="afmiddleware-renewal", daemon=True
                ).start()
            return found

    def _look(self, fence: Fence, error: StalePolicyError, found: Future[None]) -> None:
        try:
            if not self._settled(fence, error):
                why = _read_again(fence, error.policy)
                if why:
                    self._fall_behind(fence, error, why)
        except Exception:  # noqa: BLE001 (said; whoever waits must go on, and is refused)
            _log.exception("the policy was not read again")
        finally:
            found.set_result(None)

    def _fall_behind(self, fence: Fence, error: StalePolicyError, why: str) -> None:
        if self.behind != error.policy:
            only = ", the only one that may decide" if error.pinned else ""
            _log.critical(
                "policy %s is superseded by %s (generation %d)%s, and %s: nothing is decided here (503 "
                "policy.unavailable). Bring %s up to date, or let what it says decide: afmiddleware policy activate",
                error.policy[:16],
                error.active[:16],
                error.generation,
                only,
                why,
                fence.config.source,
            )
        self._until = fence.clock() + AGAIN_AFTER
        self.behind = error.policy
        fence.standing = replace(fence.standing, superseded_by=error.active, generation=error.generation)


def _read_again(fence: Fence, policy: str) -> str:
    """Read the policy again; why that brings no other one, empty when it does."""
    source = fence.config.source
    if fence.file is None:
        return "it was not made from a file, so it cannot be read again"
    if fence.config.reload == "off":
        return f"{source} is not read again (reload: off), so the process has to be restarted"
    try:
        if not unchanged(fence):
            fence.reload()
    except ConfigError:
        return f"{source} is wrong now"
    return f"{source} still says the same" if fence.plan.file == policy else ""


def _flagged(entry: Entry) -> Entry:
    record = entry.record

    def flagged(final: Verdict) -> Draft:
        return record(replace(final, flags=(*final.flags, SUPERSEDED)))

    return replace(entry, policy="", record=flagged)
