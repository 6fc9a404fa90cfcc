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


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The end of an admitted action.

    `status` is the HTTP status sent, 0 when none was. `captured` is the amount really spent in minor units, `None`
    for all that was reserved.
    """

    settlement: Settlement
    end: End = End.OK
    status: int = 0
    captured: int | None = None
