"""The way back of an admitted request through ASGI: headers are added, the end is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.current import Action
from afmiddleware.model.outcome import End, Outcome
from afmiddleware.pep.respond import admitted
from afmiddleware.pep.settle import settling_of

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from afmiddleware.fence import Fence
    from afmiddleware.pep.asgi import Sealed
    from afmiddleware.pep.respond import RawHeaders
    from afmiddleware.plan import Admission

_UNREAD = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Messages that send a body which does not come by here."""


class Exchange:
    """The way back of an admitted request: its headers are added, its end is recorded once."""

    __slots__ = ("_admission", "_cross_origin", "_done", "_fence", "_sealed", "_send", "_settling", "action", "status")

    def __init__(
        self,
        fence: Fence,
        admission: Admission,
        send: Send,
        *,
        cross_origin: bool,
        sealed: Sealed | None = None,
    ) -> None:
        self._fence = fence
        self._admission = admission
        self._send = send
        self._cross_origin = cross_origin
        self._sealed = sealed
        self._done = False
        self.action = Action(admission)
        self._settling = settling_of(self.action)
        self.status = 0

    async def send(self, message: Message) -> None:
        kind = message["type"]
        settling = self._settling
        if kind == "http.response.start":
            self.status = message["status"]
            if settling is not None:
                settling.start(self.status, message.get("headers", ()))
            extra = self._headers()
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        last = kind in ("http.response.body", "http.response.pathsend") and not message.get("more_body", False)
        if settling is not None and kind in _UNREAD:
            settling.lose()
        if settling is not None and kind == "http.response.body":
            settling.feed(message.get("body", b""))
        if last and not self._done:
            # The handler has said all. When the client has left, hypercorn never returns from what follows (HTTP/2).
            if settling is not None and settling.waits and kind == "http.response.body":
                self._done = True
                await self._recorded(settling.outcomes(self._end(End.OK)))
            else:
                self.finish(End.OK)
        await self._send(message)

    def _headers(self) -> RawHeaders:
        fence, end = self._fence, self._end(End.OK)
        crossing = self._cross_origin
        return admitted(self.action, self.status, end, fence.clock(), cross_origin=crossing, prefix=fence.prefix)

    def finish(self, end: End) -> None:
        if self._done:
            return
        self._done = True
        if self._settling is None:
            self._fence.conclude(self._admission, self.action.outcome(self.status, self._end(end)))
            return
        for admission, outcome in self._settling.outcomes(self._end(end)):
            self._fence.conclude(admission, outcome)

    async def _recorded(self, ends: list[tuple[Admission, Outcome]]) -> None:
        try:
            while ends:
                await self._fence.aconclude(*ends.pop(0))
        except BaseException:
            # The client has left; what waits is written all the same.
            for admission, outcome in ends:
                self._fence.conclude(admission, outcome)
            raise

    def _end(self, end: End) -> End:
        return End.NOT_REACHED if self._sealed is not None and self._sealed.invalid else end
