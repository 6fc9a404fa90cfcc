"""Rates and slots in Redis, for several hosts: one script for each batch, by the server's clock."""

from __future__ import annotations

import logging
import os
import threading
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.redis_server import EvictingError, Server
from afmiddleware.ledger.shared_writer import SharedWriter
from afmiddleware.ledger.steady import Steady
from afmiddleware.limits.cells import RATE_SLOTS, Cell, new_cell
from afmiddleware.limits.rows import More, Row
from afmiddleware.limits.slots import RENEWED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from afmiddleware.config.ledger_url import RedisUrl
    from afmiddleware.ledger.committer import Writer
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.limit import Charge, Limit

MOST: Final = 2**53 - 1
RETRY: Final = 0.2
"""How long a server that did not answer is left alone, in seconds."""

_DONE, _MOVED, _AHEAD = 0, 1, 2
_SECOND: Final = 1_000_000
_REMEMBERED: Final = 20_000
_HEAD: Final = 7
_MARGIN: Final = 3_600_000
_pack = msgspec.msgpack.Encoder().encode
_cell = msgspec.msgpack.Decoder(Cell).decode
_log = logging.getLogger("afmiddleware.ledger")


class Taken(msgspec.Struct, array_like=True):
    """What became of one entry.

    `full` and `crowd` are the places of the first rate and the first slots that had no room, or -1. `closed` is how
    many microseconds its limits stay closed because counters were lost. Bit n of `counted` says that rate n counts it;
    `cells` are the counters as they were left.
    """

    full: int
    crowd: int
    closed: int
    counted: int
    cells: list[Cell]


class _Told(msgspec.Struct, array_like=True):
    status: int
    now: int
    entries: list[Taken]


_told = msgspec.msgpack.Decoder(_Told).decode
Shape = tuple[int, int, int, int, int, str]
"""A limit as rates.lua has it: span, sub-windows, how long what was lost may count, cap, what it counts (1 what is
admitted only, 2 a block of addresses, 3 both), and how long its counters are kept, in milliseconds."""

Slot = tuple[str, str]
"""A key of Redis that holds slots, and the decision that stands in one of them."""

Credit = tuple[str, "Limit", int, int]
"""A counter's key in Redis, its limit, the mark it was counted under, and how much."""


class Rates:
    """The shared counters, as one process sees them. Its writer thread alone counts; `rows` may be read by any thread.

    `known` tells which epoch this host has counted in before, `note` is told of another. `standing` are the slots of
    what runs in this process, by decision.
    """

    def __init__(
        self,
        url: RedisUrl,
        draw: Callable[[int], bytes],
        clock: Callable[[], int] | None = None,
        cells: Iterable[str] = (),
    ) -> None:
        self.url = url
        self.standing: dict[str, list[str]] = {}
        self.now = 0
        self._draw = draw
        self._clock = clock
        self._server = Server(url, clock)
        self._steady = Steady(f"the Redis {url.name}")
        self._names: dict[tuple[str, str], str] = {}
        self._cells: set[str] = set(cells)
        self._epoch = ""
        self._lost = False
        self._stands_again = False
        self._leased = False
        self._number = 0
        self._quiet_until = 0.0
        self._pid = os.getpid()
        self._holder = draw(8).hex()
        self.epoch, self.leases = self._key("epoch"), self._key("leases")
        self.last = self._key(f"last:{self._holder}")
        self._shapes: dict[int, tuple[Limit, Shape]] = {}
        self._lease = 0
        self._reading = threading.Lock()
        self._reader: Server | None = None
        self._reader_pid = 0

    def check(self) -> None:
        """Raises `LedgerUnavailableError` unless the server answers and can be trusted with counters."""
        try:
            self._server.connect()
        finally:
            self._server.close()

    def settle(self, known: str) -> str:
        """Connect if need be, and find out which epoch this is; `known` is the one counted in before, if any."""
        self._own()
        if self._server.connected and self._epoch and self._still_trusted():
            return self._epoch
        if time.monotonic() < self._quiet_until:
            raise LedgerUnavailableError(f"the Redis {self.url.name} did not answer a moment ago")
        self._connect()
        epoch = self._server.begin(self._key("epoch"), known, self._draw(16).hex(), lost=self._lost)
        self._lost, self._epoch, self._stands_again = False, epoch, True
        return epoch

    def leave(self) -> None:
        """Ask again which epoch this is before anything else is counted."""
        self._epoch = ""

    def count(
        self,
        groups: Sequence[tuple[bool, Sequence[Entry]]],
        freed: Sequence[Slot] = (),
        credits: Sequence[Credit] = (),  # noqa: A002 (the field's word)
    ) -> list[Taken] | None:
        """Decide the entries of each group (and whether it only asks) in order, after what is given back.

        `None` means that the epoch has changed, and nothing was done. Raises `LedgerUnavailableError`; what was asked
        may then have been done.
        """
        self._number += 1
        batch = _Batch(self, groups, freed, credits, stood=self._stands_again)
        try:
            told = self._once(batch)
        except LedgerUnavailableError:
            # The server may have done it, or have been gone for long. It is asked once more, and does nothing twice.
            self._connect()
            told = self._once(batch)
        if told.status == _MOVED:
            self._epoch = ""
            return None
        if self._clock is None:
            self._steady.check(told.now)
        if told.status == _AHEAD:
            raise LedgerUnavailableError(f"the clock of the Redis {self.url.name} has jumped")
        self.now, self._stands_again = told.now, False
        self._leased = self._leased or batch.leases
        return told.entries

    def rested(self) -> None:
        """Remember that a batch was made with which nothing was asked, so that the lease is renewed if there is one."""
        self._leased = self._leased and bool(self.standing)

    def around(self, inner: Writer, read: Callable[[list[str]], dict[str, Row]]) -> Writer:
        """A writer that counts here before `inner` commits."""
        return SharedWriter(inner, self, read)

    def rows(self, found: dict[str, Row], keys: Iterable[str]) -> dict[str, Row]:
        """Rows with the counters that Redis has of `keys`. Raises `LedgerUnavailableError`."""
        names = [(key, cell) for key in keys for cell in tuple(self._cells)]
        if not names:
            return found
        with self._reading:
            if self._reader is None or self._reader_pid != os.getpid():
                self._reader, self._reader_pid = Server(self.url, self._clock), os.getpid()
            if not self._reader.connected:
                self._reader.connect()
            leases = self._reader.ask("HGETALL", self._key("leases"))
            now = self._reader.now() or _time(self._reader.ask("TIME"))
            live = {holder for holder, until in _pairs(leases) if int(until) > now}
            counted = self._reader.ask("MGET", *[self._name(*name) for name in names])
            stood = [self._reader.ask("HVALS", self._name(key, cell)) for key, cell in names if cell.endswith("/c")]
        for (key, cell), packed in zip(names, counted, strict=True):
            if packed is not None:
                found.setdefault(key, Row({})).cells[cell] = _cell(packed)
        crowds = [name for name in names if name[1].endswith("/c")]
        for (key, cell), holders in zip(crowds, stood, strict=True):
            running = sum(holder in live for holder in holders)
            if running:
                row = found.setdefault(key, Row({}))
                row.more = row.more or More()
                row.more.busy = {**row.more.busy, cell: {0: running}}
        return found

    def accept(self) -> None:
        """Open what is closed because counters were lost: the operator takes it upon himself."""
        self._server.connect()
        try:
            key = self._key("epoch")
            told = self._server.ask("GET", key) or b""
            # One microsecond after the epoch is no time at which anything still counts.
            self._server.ask("SET", key, told.rpartition(b":")[0] + b":1", "XX")
        finally:
            self._server.close()

    def close(self) -> None:
        """Free the slots of this process and let go of the server. Idempotent."""
        if self._pid == os.getpid():
            try:
                if self._leased:
                    if not self._server.connected:
                        self._server.connect()
                    self._server.ask("HDEL", self._key("leases"), self._holder)
            except LedgerUnavailableError as error:
                _log.warning("the slots of this process are freed only after its lease: %s", error)
            self._server.close()
            if self._reader is not None and self._reader_pid == os.getpid():
                self._reader.close()
        self._leased, self._reader = False, None

    def _connect(self) -> None:
        self._quiet_until = time.monotonic() + RETRY
        self._trusting(self._server.connect)
        self._quiet_until = 0.0

    def _still_trusted(self) -> bool:
        """Whether the connected server is as it was, `False` when it has gone. Raises `EvictingError`."""
        try:
            self._trusting(self._server.look_after)
        except EvictingError:
            raise
        except LedgerUnavailableError:
            return False
        return True

    def _trusting(self, look: Callable[[], None]) -> None:
        try:
            look()
        except EvictingError:
            self._lost = True
            raise

    def _once(self, batch: _Batch) -> _Told:
        latest = 0 if self._clock is not None else self._steady.latest()
        now = self._server.now()
        # Lives or dies by the time of the answers: what was renewed a while ago is renewed.
        renew = batch.leases and (self._stands_again or (now or self._steady.latest()) > self._lease + RENEWED)
        values = batch.values(self._number, now, latest, self._holder, renew=renew)
        told = _told(self._server.count(batch.keys(), self._epoch, values))
        if renew and told.status == _DONE:
            self._lease = told.now
        return told

    def _own(self) -> None:
        """After a fork the connection, its epoch and what runs are the parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._server.forget()
            self._reading = threading.Lock()
            self._holder = self._draw(8).hex()
            self.last = self._key(f"last:{self._holder}")
            self._epoch, self._leased, self._number = "", False, 0
            self.standing = {}

    def _key(self, name: str) -> str:
        return f"{self.url.prefix}:{{{self.url.prefix}}}:{name}"

    def shape(self, limit: Limit) -> Shape:
        """What rates.lua has to know of a limit. A limit is known again as itself: to compare it would cost more."""
        found = self._shapes.get(id(limit))
        if found is None or found[0] is not limit:
            if len(self._shapes) >= _REMEMBERED:
                self._shapes = {}
            found = self._shapes[id(limit)] = (limit, _shape_of(limit))
        return found[1]

    def name(self, charge: Charge) -> str:
        """The key in Redis of a limit's counter, or of its slots. It shows nobody's name."""
        cell = charge.limit.cell
        self._cells.add(cell)
        return self._name(charge.key, cell)

    def _name(self, key: str, cell: str) -> str:
        found = self._names.get((key, cell))
        if found is None:
            digest = blake2b(f"{len(cell)}:{cell}{key}".encode("utf-8", "surrogatepass"), digest_size=16)
            found = self._key(digest.hexdigest())
            if len(self._names) >= _REMEMBERED:
                self._names = {}
            self._names[key, cell] = found
        return found


class _Batch:
    """One batch on its way to rates.lua."""

    def __init__(
        self,
        rates: Rates,
        groups: Sequence[tuple[bool, Sequence[Entry]]],
        freed: Sequence[Slot],
        credits: Sequence[Credit],  # noqa: A002 (the field's word)
        *,
        stood: bool,
    ) -> None:
        self._rates = rates
        self._counters: dict[str, int] = {}
        self._crowds: dict[str, int] = {}
        self._limits: list[int | str] = []
        self._places: dict[int, int] = {}
        name, counter, crowd, limit = rates.name, self._counter, self._crowd, self._limit
        body: list[int | str] = [len(freed)]
        self._body = body
        for key, decision in freed:
            body += (crowd(key), decision)
        standing = [(key, decision) for decision, keys in rates.standing.items() for key in keys] if stood else []
        body.append(len(standing))
        for key, decision in standing:
            body += (crowd(key), decision)
        body.append(len(credits))
        for key, its, mark, amount in credits:
            body += (counter(key), limit(its), mark, amount)
        body.append(len(groups))
        for dry, entries in groups:
            body += (int(dry), len(entries))
            for one in entries:
                body += (one.id, int(one.verdict.authorized), int(one.observe), len(one.rates))
                for charge in one.rates:
                    body += (counter(name(charge)), limit(charge.limit), charge.amount)
                body.append(len(one.slots))
                for slot in one.slots:
                    body += (crowd(name(slot)), min(slot.limit.cap, MOST))
        self.leases = bool(self._crowds or rates.standing)

    def keys(self) -> list[str]:
        rates = self._rates
        return [rates.epoch, rates.last, *self._counters, *self._crowds, rates.leases]

    def values(self, number: int, now: int, latest: int, holder: str, *, renew: bool) -> bytes:
        head = (number, now, latest, holder, int(renew), len(self._counters), len(self._places))
        return _pack((*head, *self._limits, *self._body))

    def _counter(self, key: str) -> int:
        return self._counters.setdefault(key, len(self._counters) + 1)

    def _crowd(self, key: str) -> int:
        return self._crowds.setdefault(key, len(self._crowds) + 1)

    def _limit(self, limit: Limit) -> int:
        """Where the limit stands in the batch, counted from one."""
        place = self._places.get(id(limit))
        if place is None:
            place = self._places[id(limit)] = _HEAD + len(self._limits) + 1
            self._limits += self._rates.shape(limit)
        return place


def _shape_of(limit: Limit) -> Shape:
    cell = new_cell(limit, 0)
    paced = cell.span < 0
    counts = limit.cap * -cell.span if paced else limit.window.seconds * _SECOND
    slots = 0 if paced else RATE_SLOTS + 1
    # Whatever a counter holds is over after what a full one takes to drain, or after all of its ring.
    kept = min(counts, MOST) + abs(cell.span) * (slots + 1)
    return (
        cell.span,
        slots,
        min(counts, MOST),
        min(limit.cap, MOST),
        limit.admitted + 2 * limit.wide,
        str(kept // 1000 + _MARGIN),
    )


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _time(told: Sequence[bytes]) -> int:
    return int(told[0]) * _SECOND + int(told[1])
