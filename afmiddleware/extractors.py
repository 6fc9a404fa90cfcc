"""Asking the service's own functions, in sync and in async code. What they raise never reaches the caller."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Never

from afmiddleware.errors import CredentialError, IdentityUnavailableError, MappingError
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("afmiddleware")


def call(function: Callable[[Any], Any], view: Any) -> Any:
    """Ask `function`, blocking; an async one runs in an event loop of its own. Raises `MappingError` when it fails."""
    try:
        answer = function(view)
        return _await(answer) if inspect.isawaitable(answer) else answer
    except (MappingError, CredentialError, IdentityUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the action cannot be judged)
        _failed(function, error)


async def acall(function: Callable[[Any], Any], view: Any) -> Any:
    """Ask `function` without blocking the event loop: a plain one runs in a thread. Raises as `call` does."""
    try:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return await function(view)
        answer = await asyncio.to_thread(function, view)
        return await answer if inspect.isawaitable(answer) else answer
    except (MappingError, CredentialError, IdentityUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the action cannot be judged)
        _failed(function, error)


def _await(answer: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(answer))
    # A loop runs in this thread already, under a framework that is not async.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _awaited(answer)).result()


async def _awaited(answer: Any) -> Any:
    return await answer


def _failed(function: Callable[[Any], Any], error: Exception) -> Never:
    # Where it happened, and not the message: that may hold what the request held.
    name = getattr(function, "__qualname__", type(function).__qualname__)
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error(
        "the function %s of the service failed with %s, so the request was refused:\n%s",
        name,
        type(error).__name__,
        where,
    )
    raise MappingError(AMOUNT_UNRESOLVABLE, "an extractor of the service found no value in the request") from None
