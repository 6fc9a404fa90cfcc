"""A block of code that runs only when its action is admitted: what `Fence.action` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.current import Action, enter, leave
from afmiddleware.drivers import arun, run
from afmiddleware.errors import ActionRefusedError, StalePolicyError
from afmiddleware.flow import admit_event, refused
from afmiddleware.model.codes import POLICY_UNAVAILABLE
from afmiddleware.model.outcome import End
from afmiddleware.plan import Admission, Refused

if TYPE_CHECKING:
    from types import TracebackType

    from afmiddleware.effects import Flow
    from afmiddleware.fence import Fence
    from afmiddleware.model.action import ActionEvent


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
        while True:
            try:
                return self._enter(run(self._admit(), fence.io))
            except StalePolicyError as error:
                if not fence.renew(error):
                    raise _outdated(error, self._event) from None

    async def __aenter__(self) -> Action:
        fence = self._fence
        while True:
            try:
                return self._enter(await arun(self._admit(), fence.aio))
            except StalePolicyError as error:
                if not await fence.arenew(error):
                    raise _outdated(error, self._event) from None

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

    def _admit(self) -> Flow[Refused | Admission]:
        fence = self._fence
        return admit_event(fence.plan, self._event, now := fence.clock(), fence.new_id(now))

    def _enter(self, passage: Refused | Admission) -> Action:
        if isinstance(passage, Refused):
            raise ActionRefusedError(passage.verdict)
        self._admission = passage
        self._action = Action(passage)
        self._outer = enter(self._action)
        return self._action


def _outdated(error: StalePolicyError, event: ActionEvent) -> ActionRefusedError:
    why = refused(POLICY_UNAVAILABLE, f"{error}, and there is no newer one here.", capability=event.capability)
    return ActionRefusedError(why)
