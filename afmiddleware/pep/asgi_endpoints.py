"""The fence's own endpoints in an ASGI application: looked up in a thread, so that the event loop never waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from afmiddleware.drivers import arun
from afmiddleware.pep.endpoints import caller, serve, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from afmiddleware.effects import AsyncIo
    from afmiddleware.fence import Fence
    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.pep.endpoints import Answer


async def served(
    fence: Fence, facts: HttpFacts, io: AsyncIo, send: Send, known: Callable[[], AppUser | None] | None = None
) -> bool:
    """Answer a request for one of the fence's own paths; `False` for any other, and then nothing was sent."""
    if not wanted(fence, facts.path):
        return False
    status, headers, body = await aserve(fence, facts, io, known)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return True


async def aserve(
    fence: Fence, facts: HttpFacts, io: AsyncIo, known: Callable[[], AppUser | None] | None = None
) -> Answer:
    """The answer to a request for a path that is `wanted`."""
    found = await arun(caller(fence, facts, known), io)
    return await asyncio.to_thread(serve, fence, facts, found)
