"""Actions that do not come over HTTP: what the spine can have done for them, and the block they run in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.errors import ClientGoneError
from afmiddleware.extractors import acall, call

if TYPE_CHECKING:
    from afmiddleware.fence import Fence
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
