"""How a fence does what a flow asks for, in sync and in async code. Who has a request adds how its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from afmiddleware.errors import ClientGoneError, MappingError
from afmiddleware.extractors import acall, call
from afmiddleware.identity.needs import NeedOnce
from afmiddleware.model.codes import POLICY_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afmiddleware.effects import AsyncIo, Io
    from afmiddleware.identity.needs import Need
    from afmiddleware.model.entry import Conclusion, Entry, Held
    from afmiddleware.plan import Plan


SOON: Final = 10_000_000
"""How long after its head a body may still be judged by a policy that was replaced meanwhile, in microseconds."""

LATE: Final = 300_000_000
"""How long after its head a body may be judged at all, in microseconds: what is said of the time is of the head's."""


class Performer(Protocol):
    """What of a `Fence` is needed."""

    inline: bool

    @property
    def plan(self) -> Plan: ...
    @property
    def clock(self) -> Callable[[], int]: ...
    def commit(self, entry: Entry) -> Held: ...
    async def acommit(self, entry: Entry) -> Held: ...
    def post(self, item: Entry | Conclusion) -> None: ...
    def resolve(self, need: Need) -> Any: ...
    async def aresolve(self, need: Need) -> Any: ...


_NOTHING: Final[frozenset[str]] = frozenset()


class FirstUses:
    """What may be used once, and was used first by the request at hand: so it is, when that is decided again."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before = self._now = _NOTHING

    def again(self) -> None:
        """From here on the request is decided once more."""
        self._before |= self._now
        self._now = _NOTHING

    def known(self, need: Need) -> bool:
        """Whether the request was told already that it is the first."""
        if not isinstance(need, NeedOnce) or need.key not in self._before:
            return False
        self._before -= {need.key}
        self._now |= {need.key}
        return True

    def note(self, need: Need, answer: Any) -> Any:
        """Remember what is answered."""
        if isinstance(need, NeedOnce) and answer is True:
            self._now |= {need.key}
        return answer


class FenceIo:
    """`effects.Io` by a fence. Here there is no request, so there is no body."""

    __slots__ = ("_fence", "_firsts", "commit", "post")

    def __init__(self, fence: Performer) -> None:
        self.commit = fence.commit
        self.post = fence.post
        self._fence = fence
        self._firsts = FirstUses()

    def again(self) -> None:
        """The request is decided once more, from the start."""
        self._firsts.again()

    def resolve(self, need: Need) -> Any:
        """Look up what identity needs."""
        return True if self._firsts.known(need) else self._firsts.note(need, self._fence.resolve(need))

    def read_body(self, cap: int) -> bytes:
        """Raises `ClientGoneError`."""
        raise _no_body(cap)

    def call(self, function: Callable[[Any], Any], view: Any) -> Any:
        """Ask a function of the service. Raises `MappingError` when it fails."""
        return call(function, view)


class AsyncFenceIo:
    """`effects.AsyncIo` by a fence, likewise."""

    __slots__ = ("_fence", "_firsts")

    def __init__(self, fence: Performer) -> None:
        self._fence = fence
        self._firsts = FirstUses()

    def again(self) -> None:
        """The request is decided once more, from the start."""
        self._firsts.again()

    async def read_body(self, cap: int) -> bytes:
        """Raises `ClientGoneError`."""
        raise _no_body(cap)

    async def call(self, function: Callable[[Any], Any], view: Any) -> Any:
        """Ask a function of the service. Raises `MappingError` when it fails."""
        return await acall(function, view)

    async def resolve(self, need: Need) -> Any:
        """Look up what identity needs."""
        return True if self._firsts.known(need) else self._firsts.note(need, await self._fence.aresolve(need))

    def commit(self, entry: Entry) -> Awaitable[Held]:
        """Commit and wait."""
        fence = self._fence
        return _made(fence.commit(entry)) if fence.inline else fence.acommit(entry)

    async def post(self, item: Entry | Conclusion) -> None:
        """Commit without waiting."""
        self._fence.post(item)


class Begun:
    """When a request began to be judged, and by which policy."""

    __slots__ = ("_at", "_fence", "_plan")

    def __init__(self, fence: Performer) -> None:
        self._fence = fence
        self._plan = fence.plan
        self._at = fence.clock()

    def check(self) -> None:
        """Raises `MappingError` when the body came so late that what was known at its head may hold no longer."""
        waited = self._fence.clock() - self._at
        if waited > LATE or (waited > SOON and self._fence.plan is not self._plan):
            detail = "The body came so late that the request would be judged by what held before; send it again."
            raise MappingError(POLICY_UNAVAILABLE, detail)


async def _made(held: Held) -> Held:
    return held


def _no_body(cap: int) -> ClientGoneError:
    return ClientGoneError(f"there is no body to read ({cap} bytes at most)")


if TYPE_CHECKING:
    _sync: type[Io] = FenceIo
    _not_sync: type[AsyncIo] = AsyncFenceIo
