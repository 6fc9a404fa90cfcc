"""Whether a process can admit anything now: for health checks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.model.entry import Ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.ledger.base import Ledger

GOOD_FOR: Final = 1.0
"""For how long an answer is given again, in seconds: whoever asks cannot keep the ledger busy."""

_log = logging.getLogger("afmiddleware")


class Readiness:
    """What the ledger says to a commit that changes nothing, asked about once a second however many ask.

    `unfit` is set where the policy does not fit the application, so that nothing runs whatever the ledger says.
    """

    def __init__(self, ledger: Ledger, steady: Callable[[], float] = time.monotonic) -> None:
        self.unfit = False
        self._ledger = ledger
        self._steady = steady
        self._asked = -GOOD_FOR
        self._ready: bool | None = None

    def ask(self) -> bool:
        """Whether a commit can be made now, with the rates that are shared. Blocks no longer than the ledger does."""
        if self._wants():
            try:
                self._ledger.commit(Ping())
            except LedgerUnavailableError as error:
                self._learn(error)
            else:
                self._learn(None)
        return bool(self._ready) and not self.unfit

    async def aask(self) -> bool:
        """`ask` without blocking the event loop."""
        if self._wants():
            try:
                await self._ledger.acommit(Ping())
            except LedgerUnavailableError as error:
                self._learn(error)
            else:
                self._learn(None)
        return bool(self._ready) and not self.unfit

    def _wants(self) -> bool:
        now = self._steady()
        if now < self._asked + GOOD_FOR:
            return False
        if self._ready is not None:
            # While one asks, the others are told what was true a moment ago.
            self._asked = now
        return True

    def _learn(self, error: LedgerUnavailableError | None) -> None:
        if error is not None:
            _log.warning("this process is not ready: %s", error)
        self._asked, self._ready = self._steady(), error is None
