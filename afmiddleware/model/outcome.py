"""How an admitted action ended."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Settlement(StrEnum):
    """What becomes of the money that was reserved."""

    CAPTURE = "capture"
    RELEASE = "release"
    UNKNOWN = "unknown"


class End(StrEnum):
    """How the handler ended."""

    OK = "ok"
    NOT_REACHED = "not_reached"
    ERROR = "error"
    CLIENT_GONE = "client_gone"


class Answer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An answer as a handler gave it, kept for who asks again with the same Idempotency-Key."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The end of an admitted action.

    `status` is the HTTP status sent, 0 when none was. `captured` is the amount really spent in minor units, `None`
    for all that was reserved. `answer` is what was answered, where that is to be kept; `reference` what a later refund
    calls the action by. Of an action that refunds another `captured` is what it gave back.
    """

    settlement: Settlement
    end: End = End.OK
    status: int = 0
    captured: int | None = None
    answer: Answer | None = None
    reference: str = ""
