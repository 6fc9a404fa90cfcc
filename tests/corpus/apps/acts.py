"""What every application under attack does: its handlers note what they acted on, before they do anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from afmiddleware.current import current_action
from afmiddleware.errors import AFError


def act(
    name: str,
    *,
    case: str,
    method: str,
    path: str,
    query: bytes,
    params: dict[str, Any] | None = None,
    body: bytes | None = None,
    amount: object = None,
    to: object = None,
    call: int = 0,
) -> None:
    """Note what a handler acts on, as its framework gave it, and the event it was admitted for.

    `path` is the whole path, decoded once; `amount` is what the handler would pay, in the text its type prints; `call`
    is the place of a call among those of a request.
    """
    line = {
        "name": name,
        "case": case,
        "method": method,
        "path": path,
        "query": query.decode("latin-1"),
        "params": {key: str(value) for key, value in (params or {}).items()},
        "body": None if body is None else body.hex(),
        "amount": None if amount is None else str(amount),
        "to": to,
        "event": _event(call),
    }
    # One write at the end of the file, so that lines of threads and processes stay whole.
    handle = os.open(os.environ["CORPUS_MARKS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


def _event(call: int) -> dict[str, Any] | None:
    try:
        action = current_action().calls[call]
    except (AFError, IndexError):
        return None
    event, receipt = action.event, action.receipt
    if event is None or receipt is None or not action.verdict.authorized:
        return None
    money = event.amount
    return {
        "capability": event.capability,
        "method": event.method,
        "route": event.route,
        "amount": None if money is None else [money.minor, money.currency, money.exponent],
        "resource": event.resource,
        "recipient": event.recipient,
        "seq": receipt.seq,
    }


def paid_calls(document: Any, note: Callable[..., Any]) -> Any:
    """What a plain JSON-RPC server does: every call in the body, one after another. `note` notes one of them."""
    calls = document if isinstance(document, list) else [document]
    answers = []
    for place, call in enumerate(calls):
        note(call.get("params", {}).get("amount"), call=place, params={"method": call["method"]})
        answers.append({"jsonrpc": "2.0", "id": call.get("id"), "result": {}})
    return answers if isinstance(document, list) else answers[0]
