"""One row holds all counters of one key and the head of its owner's receipts; this is its packed form."""

from __future__ import annotations

import msgspec

from afmiddleware.limits.cells import Cell, expired
from afmiddleware.model.limit import Window


class Trip(msgspec.Struct, array_like=True):
    """An open circuit breaker: since when, and the probe that was let through since, if one was."""

    at: int
    probe: str = ""
    probed_at: int = 0


class Generation(msgspec.Struct, array_like=True, frozen=True):
    """Which policy decides for all that share the ledger: the one whose file and lists have this `digest`.

    `number` counts the changes, the last of which was at `since`. Nothing is decided by a `superseded` policy, of which
    the last are listed, nor by any other one while it is `pinned`.
    """

    number: int
    digest: str
    since: int
    pinned: bool = False
    superseded: tuple[str, ...] = ()


class More(msgspec.Struct, array_like=True):
    """What few rows have.

    `busy` is how many requests run now, by counter and by the process that runs them; `trips` the breakers that are
    open, by counter. The operator sets `caps` of limits by name for one actor, which only narrow unless they come with
    true, and says why its requests are `frozen`. `policy` is what decided last, as digest and mode, and `made` how
    many rows there are and how many of these are of strangers, in the row of what holds for everybody, as is the
    `generation`. `used` is when the credential that the row is of was last good, in microseconds since the epoch.
    """

    busy: dict[str, dict[int, int]] = {}
    trips: dict[str, Trip] = {}
    caps: dict[str, tuple[int, bool]] = {}
    frozen: dict[str, str] = {}
    policy: tuple[str, str] = ("", "")
    made: tuple[int, int] = (0, 0)
    used: int = 0
    generation: Generation | None = None


class Row(msgspec.Struct, array_like=True):
    """The state of one key. `oseq` and `oprev` are the owner's receipt head: 0 and empty before the first."""

    cells: dict[str, Cell]
    oseq: int = 0
    oprev: bytes = b""
    more: More | None = None


class Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a reservation has counted in one counter: enough to give it back, or to book more.

    `window` is the one the counter is moved by when more is booked; an overrun over `trips_over` opens a breaker.
    """

    key: str
    cell: str
    mark: int
    amount: int
    window: Window
    trips_over: int = -1


class Slot(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One request that runs: the counter it stands in, and the process that runs it."""

    key: str
    cell: str
    holder: int


class Refunding(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an action gives back once it was performed: of which decision (empty: of none), and how much at most.

    `amount` is in minor units of `currency`, -1 for all that is left.
    """

    of: str
    amount: int
    currency: str
    exponent: int


class Hold(msgspec.Struct, array_like=True):
    """A reservation: all that is needed to end it.

    `state` is `held`, `capture`, `release`, `unknown` or `expired`; `leaf` is its intent's leaf hash, empty when
    nothing could be recorded. `amount` is what counts now and `reserved` what was asked for; `currency` is empty where
    no money was. What is not settled at `due` becomes what `then` says, 0 for never; `unknown_after` and `unknown_then`
    are for an unknown outcome. `claim` is the idempotency key it was made under: the key, what was asked, until when.
    `refund` is what it gives back, and `referenced` says that a later one may give it back.
    """

    owner: str
    state: str
    amount: int
    currency: str
    exponent: int
    leaf: bytes
    created: int
    lines: list[Line]
    capability: str = ""
    slots: list[Slot] = []
    reserved: int = 0
    due: int = 0
    then: str = ""
    unknown_after: int = 0
    unknown_then: str = ""
    claim: tuple[str, str, int] | None = None
    refund: Refunding | None = None
    referenced: bool = False


_pack = msgspec.msgpack.Encoder().encode
_row = msgspec.msgpack.Decoder(Row).decode
_hold = msgspec.msgpack.Decoder(Hold).decode


def pack(value: Row | Hold) -> bytes:
    """A row or a reservation as bytes (MessagePack)."""
    return _pack(value)


def unpack_row(data: bytes) -> Row:
    """A row from its bytes. Raises `msgspec.MsgspecError` when they are none."""
    return _row(data)


def unpack_hold(data: bytes) -> Hold:
    """A reservation from its bytes. Raises `msgspec.MsgspecError` when they are none."""
    return _hold(data)


def forgettable(row: Row, now: int) -> bool:
    """Whether dropping the row loses nothing: every window is over and it owns no receipts."""
    return not row.oseq and row.more is None and all(expired(cell, now) for cell in row.cells.values())


def prune(row: Row, before: int) -> bool:
    """Forget the counters that were over already at `before`; whether there were any.

    `before` lies well in the past: were the clock set back to a time when a forgotten window still ran, that would
    begin anew.
    """
    over = [name for name, cell in row.cells.items() if expired(cell, before)]
    for name in over:
        del row.cells[name]
    return bool(over)


def empty(row: Row) -> bool:
    """Whether a row says nothing any more, so that it need not be stored."""
    return not row.cells and not row.oseq and row.more is None
