"""Whether a process can admit anything now: for health checks."""

from __future__ import annotations

import logging
import time
import weakref
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError, StalePolicyError
from afmiddleware.model.entry import Ping

if TYPE_CHECKING:
    from afmiddleware.errors import AFError
    from afmiddleware.fence import Fence

GOOD_FOR: Final = 1.0
"""For how long an answer is given again, in seconds: whoever asks cannot keep the ledger busy."""

_log = logging.getLogger("afmiddleware")


class Readiness:
    """What the ledger says to a commit that changes nothing, asked about once a second however many ask.

    It is made like that of a request: with the rates that are shared, by the policy of this process, which is read
    again when another has superseded it. `unfit` is set where the policy does not fit the application, so that nothing
    runs whatever the ledger says. `steady` tells seconds.
    """

    def __init__(self, fence: Fence) -> None:
        self.unfit = False
        self.steady = time.monotonic
        self._fence = weakref.ref(fence)
        self._asked = -GOOD_FOR
        self._ready: bool | None = None

    def ask(self) -> bool:
        """Whether this process can admit anything now; why not is in the log. Blocks no longer than a commit may."""
        fence = self._fence()
        if fence is not None and self._wants():
            try:
                try:
                    fence.ledger.commit(_ping(fence))
                except StalePolicyError as error:
                    if not fence.renew(error):
                        raise
                    fence.ledger.commit(_ping(fence))
            except (LedgerUnavailableError, StalePolicyError) as error:
                self._learn(error)
            else:
                self._learn(None)
        return bool(self._ready) and not self.unfit

    async def aask(self) -> bool:
        """`ask` without blocking the event loop."""
        fence = self._fence()
        if fence is not None and self._wants():
            try:
                try:
                    await fence.ledger.acommit(_ping(fence))
                except StalePolicyError as error:
                    if not await fence.arenew(error):
                        raise
                    await fence.ledger.acommit(_ping(fence))
            except (LedgerUnavailableError, StalePolicyError) as error:
                self._learn(error)
            else:
                self._learn(None)
        return bool(self._ready) and not self.unfit

    def _wants(self) -> bool:
        now = self.steady()
        if now < self._asked + GOOD_FOR:
            return False
        if self._ready is not None:
            # While one asks, the others are told what was true a moment ago.
            self._asked = now
        return True

    def _learn(self, error: AFError | None) -> None:
        if error is not None:
            _log.warning("this process is not ready: %s", error)
        self._asked, self._ready = self.steady(), error is None


def _ping(fence: Fence) -> Ping:
    # Where nothing blocks, a superseded policy blocks nothing either.
    return Ping() if fence.config.mode == "observe" else Ping(fence.plan.file)
