"""Whether FastAPI itself refused a request's values, so that its handler was never entered."""

from __future__ import annotations

import sys
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HANDLERS = "starlette.exception_handlers"
"""Where the application's exception handlers stand in the scope: those by class, and those by status."""

_FRAMEWORK = frozenset({"fastapi", "starlette", "contextlib"})


def watched(found: Any, note: Callable[[Any], None]) -> Any:
    """The same exception handlers, but `note` is called with the scope when FastAPI refused the values of the request.

    Only its own refusal counts: a handler that raises `RequestValidationError` itself has run.
    """
    fastapi = sys.modules.get("fastapi.exceptions")  # never imported for a plain Starlette application
    if fastapi is None:
        return found
    handlers: Mapping[Any, Callable[..., Any]] = found[0]
    refusal = fastapi.RequestValidationError
    handler = handlers.get(refusal)
    if handler is None:
        return found

    async def handle(connection: Any, error: Exception) -> Any:
        if _is_own(error):
            note(connection.scope)
        if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            return await handler(connection, error)
        return await run_in_threadpool(handler, connection, error)

    return ({**handlers, refusal: handle}, *found[1:])


def _is_own(error: Exception) -> bool:
    """Whether nothing but the framework was at work when `error` was raised: no frame of a handler or a dependency."""
    trace = error.__traceback__
    last = ""
    while trace is not None:
        last = str(trace.tb_frame.f_globals.get("__name__", ""))
        if last.partition(".")[0] not in _FRAMEWORK:
            return False
        trace = trace.tb_next
    return last == "fastapi.routing"
