"""How a fence does what a flow asks for, in sync and in async code. Who has a request adds how its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from afmiddleware.errors import ClientGoneError
from afmiddleware.extractors import acall, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.effects import AsyncIo, Io
    from afmiddleware.identity.needs import Need
    from afmiddleware.model.entry import Conclusion, Entry, Held


class Performer(Protocol):
    """What of a `Fence` is needed."""

    inline: bool

    def commit(self, entry: Entry) -> Held: ...
    async def acommit(self, entry: Entry) -> Held: ...
    def post(self, item: Entry | Conclusion) -> None: ...
    def resolve(self, need: Need) -> Any: ...
    async def aresolve(self, need: Need) -> Any: ...


class FenceIo:
    """`effects.Io` by a fence. Here there is no request, so there is no body."""

    __slots__ = ("commit", "post", "resolve")

    def __init__(self, fence: Performer) -> None:
        self.commit = fence.commit
        self.post = fence.post
        self.resolve = fence.resolve

    def read_body(self, cap: int) -> bytes:
        """Raises `ClientGoneError`."""
        raise _no_body(cap)

    def call(self, function: Callable[[Any], Any], view: Any) -> Any:
        """Ask a function of the service. Raises `MappingError` when it fails."""
        return call(function, view)


class AsyncFenceIo:
    """`effects.AsyncIo` by a fence, likewise."""

    __slots__ = ("_fence",)

    def __init__(self, fence: Performer) -> None:
        self._fence = fence

    async def read_body(self, cap: int) -> bytes:
        """Raises `ClientGoneError`."""
        raise _no_body(cap)

    async def call(self, function: Callable[[Any], Any], view: Any) -> Any:
        """Ask a function of the service. Raises `MappingError` when it fails."""
        return await acall(function, view)

    async def resolve(self, need: Need) -> Any:
        """Look up what identity needs."""
        return await self._fence.aresolve(need)

    async def commit(self, entry: Entry) -> Held:
        """Commit and wait."""
        fence = self._fence
        return fence.commit(entry) if fence.inline else await fence.acommit(entry)

    async def post(self, item: Entry | Conclusion) -> None:
        """Commit without waiting."""
        self._fence.post(item)


def _no_body(cap: int) -> ClientGoneError:
    return ClientGoneError(f"there is no body to read ({cap} bytes at most)")


if TYPE_CHECKING:
    _sync: type[Io] = FenceIo
    _not_sync: type[AsyncIo] = AsyncFenceIo
