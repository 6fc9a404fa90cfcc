"""Noticing, off the request path, that a policy's files have changed, in whatever way they were changed.

It looks at the files once a second rather than asking the system for events: events are lost on network file systems
and in containers, and are not sent for the link a Kubernetes ConfigMap is switched by. What has changed is read only
when two looks in a row have found the same, so that a file somebody is still writing is left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import ConfigError

if TYPE_CHECKING:
    from afmiddleware.fence import Fence
    from afmiddleware.policy_file import Marks

EVERY_SECONDS: Final = 1.0
RETRY_AFTER: Final = 15
"""How many looks later a policy is tried again that could not be used."""

_log = logging.getLogger("afmiddleware")


class Watcher:
    """Has a fence read its policy again when its files have changed, or on SIGHUP. It does not keep the fence alive.

    A process that is forked off goes on watching by itself.
    """

    def __init__(self, fence: Fence, how: str) -> None:
        self._fence = weakref.ref(fence)
        self._looks = how == "watch"
        self._last = self._seen = marks_of(fence)
        self._retry = 0
        self._wake = threading.Event()
        self._told = False
        self._running = False
        self._before: Any = None
        if how == "signal":
            self._listen()
        os.register_at_fork(after_in_child=partial(_in_child, weakref.ref(self)))

    def start(self) -> None:
        """Watch from now on, in a thread of its own."""
        # It must not keep what it watches from being collected.
        self._running = True
        watch = partial(_watch, weakref.ref(self), self._wake, self._fence)
        threading.Thread(target=watch, name="afmiddleware-policy", daemon=True).start()

    def look(self) -> bool:
        """Look once; whether another policy is in force since. What cannot be used is logged, and nothing changes."""
        fence = self._fence()
        if fence is None:
            return False
        now = marks_of(fence)
        settled, self._seen = now == self._seen, now
        self._retry -= 1
        due = settled and (now != self._last or self._retry == 0)
        if not self._told and not (self._looks and due):
            return False
        self._told = False
        try:
            changed = fence.reload()
        except ConfigError:
            # It was said. What the wrong policy names is looked at too, and once in a while it is tried all the same.
            changed, self._retry = False, RETRY_AFTER
        self._last = now
        if changed:
            # The new policy may name other files. One that changed while it was read is looked at once more.
            self._last = self._seen = marks_of(fence)
            if any(
                one not in now for one in self._last if one is not None and one[0] in {two[0] for two in now if two}
            ):
                self._last = ()
        return changed

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._running

    def tell(self) -> None:
        """Have the policy read at once, changed or not."""
        self._told = True
        self._wake.set()

    def close(self) -> None:
        """Stop watching."""
        self._running = False
        self._wake.set()
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._before)
            self._before = None

    def restart(self) -> None:
        """Go on in a process that was forked off, where no thread came along."""
        fence = self._fence()
        if self._running and fence is not None:
            fence.forked()
            self._wake = threading.Event()
            self.start()

    def _listen(self) -> None:
        if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
            _log.warning("reload: signal needs a fence that is made in the main thread; call fence.reload() instead")
            return
        before = signal.getsignal(signal.SIGHUP)
        here = weakref.ref(self)

        def told(number: int, frame: Any) -> None:
            watcher = here()
            if watcher is not None:
                watcher.tell()
            if callable(before):
                before(number, frame)

        self._before = signal.signal(signal.SIGHUP, told) or signal.SIG_DFL


def marks_of(fence: Fence) -> Marks:
    """The present state of the files of a fence's policy, and of one that was tried and is wrong."""
    if fence.file is None:
        return ()
    marks = fence.file.marks(fence.config, fence.base)
    return marks if fence.tried is None else marks + fence.file.marks(*fence.tried)


def _watch(watcher: weakref.ref[Watcher], wake: threading.Event, fence: weakref.ref[Fence]) -> None:
    while True:
        wake.wait(EVERY_SECONDS)
        here = watcher()
        if here is None or not here.running or fence() is None:
            return
        wake.clear()
        try:
            here.look()
        except Exception:  # noqa: BLE001 (said, and nothing is lost but this look)
            # A thread that ended here would leave a process with an old policy, and nobody would know.
            _log.exception("the policy was not read again; the last good one stays in force")
        del here


def _in_child(watcher: weakref.ref[Watcher]) -> None:
    here = watcher()
    if here is not None:
        here.restart()
