"""What stands where no fence could be made: a server that is not to start, and where it has, nothing runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerError
from afmiddleware.fence import system_clock
from afmiddleware.flow import refused
from afmiddleware.identity.address import anonymous
from afmiddleware.ledger.chance import Ids
from afmiddleware.model.codes import LEDGER_UNAVAILABLE, POLICY_UNAVAILABLE
from afmiddleware.pep.asgi import facts_of
from afmiddleware.pep.passage import cross_origin
from afmiddleware.pep.respond import refusal
from afmiddleware.plan import Refused

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from afmiddleware.errors import AFError

_RETRY_AFTER: Final = 60
_log = logging.getLogger("afmiddleware")


class Closed:
    """An ASGI application that fails the server's start with `error`, and answers 503 where there is no lifespan.

    A framework that makes its middlewares only at the first connection must not see them raise: a server takes that
    for an application without a lifespan, starts, and answers 500. The error's text goes to the operator alone.
    """

    def __init__(self, error: AFError) -> None:
        self._error = error
        self._ids = Ids()
        self._code = LEDGER_UNAVAILABLE if isinstance(error, LedgerError) else POLICY_UNAVAILABLE
        _log.critical("the application has no fence, so nothing runs: %s", error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"afmiddleware: {self._error}"})
            # After the message it may: a server has understood, and Starlette's test client ends by it.
            raise self._error
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011, "reason": self._code})
        else:
            await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        facts, now = facts_of(scope), system_clock()
        verdict = refused(self._code, "The service was not started correctly.", retry_after=_RETRY_AFTER)
        passage = Refused(id=self._ids(now), verdict=verdict, actor=anonymous(facts))
        status, headers, body = refusal(passage, now, b"Authorization", cross_origin=cross_origin(facts))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
