"""JSON-RPC 2.0 messages out of a request body: every call in it, or a refusal. Source: JSON-RPC 2.0 sections 4 to 6."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

MAX_NAME: Final = 256
"""The longest method, tool name and text id, in characters."""

CallId = str | int


class Call(msgspec.Struct, frozen=True):
    """One call. `id` is `None` for a notification, which nothing answers; `params` is `MISSING` when there are none."""

    id: CallId | None
    method: str
    params: Any = MISSING


def read_calls(document: Any, max_batch: int, *, answers: bool = False) -> tuple[tuple[Call, ...], bool]:
    """The calls of a parsed body in order, and whether it is a batch.

    With `answers` a message may also be the client's answer to a call of the server; such a message is no call and is
    left out. Raises `MappingError` (`request.ambiguous`) for an empty or nested batch, more than `max_batch` messages,
    an id that stands twice, and anything that is not a message of JSON-RPC 2.0.
    """
    batch = type(document) is list
    messages = document if batch else [document]
    if not messages:
        raise _ambiguous("the batch is empty")
    if len(messages) > max_batch:
        raise _ambiguous(f"the batch holds more than {max_batch} messages")
    calls = [call for message in messages if (call := _read(message, answers=answers)) is not None]
    seen: set[str] = set()
    for call in calls:
        # 1 and "1" are two ids, but not to every reader.
        if call.id is None:
            continue
        if str(call.id) in seen:
            raise _ambiguous("two calls of the batch have the same id")
        seen.add(str(call.id))
    return tuple(calls), batch


def _read(message: Any, *, answers: bool) -> Call | None:
    if type(message) is not dict:
        raise _ambiguous("a message is not an object")
    version = message.get("jsonrpc")
    # A number keeps its token, and would equal the text.
    if type(version) is not str or version != "2.0":
        raise _ambiguous("a message is not of JSON-RPC 2.0")
    is_answer = "result" in message or "error" in message
    if is_answer and answers and "method" not in message and not {"result", "error"} <= message.keys():
        return None
    method, params = message.get("method", MISSING), message.get("params", MISSING)
    if type(method) is not str or not method or len(method) > MAX_NAME or not method.isprintable() or is_answer:
        raise _ambiguous("a message does not name its method plainly")
    if params is not MISSING and type(params) not in {dict, list}:
        raise _ambiguous("the params of a call are neither an object nor a list")
    return Call(_id(message), method, params)


def _id(message: dict[str, Any]) -> CallId | None:
    found = message.get("id", MISSING)
    if found is MISSING:
        return None
    if type(found) is str and len(found) <= MAX_NAME:
        return str(found)
    # Beyond 2^53 - 1 the answer might carry another number.
    if type(found) is int and abs(found) < 1 << 53:
        return int(found)
    raise _ambiguous("the id of a call is neither a text nor a whole number")


def _ambiguous(detail: str) -> MappingError:
    return MappingError(REQUEST_AMBIGUOUS, detail)
