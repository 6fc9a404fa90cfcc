"""Actions that do not come over HTTP: what the spine can have done for them, and the block they run in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.current import Action, enter, leave
from afmiddleware.drivers import arun, run
from afmiddleware.errors import ActionRefusedError, ClientGoneError
from afmiddleware.extractors import acall, call
from afmiddleware.flow import admit_event
from afmiddleware.model.outcome import End
from afmiddleware.plan import Admission, Refused

if TYPE_CHECKING:
    from types import TracebackType

    from afmiddleware.fence import Fence
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.entry import Conclusion, Entry


class Io:
    """What the spine can have done outside of HTTP, blocking."""

    def __init__(self, fence: Fence) -> None:
        self.call = call
        self.commit = fence.commit
        self.post = fence.post
        self.resolve = fence.resolve

    def read_body(self, cap: int) -> bytes:
        raise ClientGoneError(f"there is no body to read ({cap} bytes at most)")


class AsyncIo:
    """The same in async code."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self.call = acall
        self.commit = fence.acommit
        self.resolve = fence.aresolve

    async def read_body(self, cap: int) -> bytes:
        raise ClientGoneError(f"there is no body to read ({cap} bytes at most)")

    async def post(self, item: Entry | Conclusion) -> None:
        self._fence.post(item)


class ActionContext:
    """What `Fence.action` returns; enter it with `with` or `async with`."""

    def __init__(self, fence: Fence, event: ActionEvent) -> None:
        self._fence = fence
        self._event = event
        self._admission: Admission | None = None
        self._action: Action | None = None
        self._outer: Action | None = None

    def __enter__(self) -> Action:
        fence = self._fence
        return self._enter(run(admit_event(fence.plan, self._event, now := fence.clock(), fence.new_id(now)), fence.io))

    async def __aenter__(self) -> Action:
        fence = self._fence
        flow = admit_event(fence.plan, self._event, now := fence.clock(), fence.new_id(now))
        return self._enter(await arun(flow, AsyncIo(fence)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self._outer)
        if self._admission is not None and self._action is not None:
            outcome = self._action.outcome(200, End.OK if kind is None else End.ERROR)
            self._fence.conclude(self._admission, outcome)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _enter(self, passage: Refused | Admission) -> Action:
        if isinstance(passage, Refused):
            raise ActionRefusedError(passage.verdict)
        self._admission = passage
        self._action = Action(passage)
        self._outer = enter(self._action)
        return self._action
