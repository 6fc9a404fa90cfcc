"""Deciding items one after another over loaded state: the part that every SQL and memory ledger shares.

A ledger loads the rows and reservations that a batch names, calls `perform` for each item in order, and writes what
`Books` then lists. Within an item nothing is counted before its receipt exists, so a receipt that cannot be made leaves
no charge behind.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.errors import AFError
from afmiddleware.ledger.claims import Claimed, claim, meet, once
from afmiddleware.ledger.epoch import begin
from afmiddleware.ledger.orders import note, note_use, perform_order, put_in_force, use_row
from afmiddleware.ledger.refunds import sought
from afmiddleware.ledger.room import Room, fit
from afmiddleware.ledger.settling import conclude, expire, settle
from afmiddleware.ledger.together import admit_together
from afmiddleware.limits.charge import balances, count_spends, weigh
from afmiddleware.limits.generations import stale
from afmiddleware.limits.judge import capped, judge, latch
from afmiddleware.limits.rows import Hold, Line, Row
from afmiddleware.limits.shared import Counted, count_rates, weigh_rates
from afmiddleware.limits.slots import LEASE, RENEWED, take, with_slots
from afmiddleware.limits.stops import CONTROL, names_of, stopped
from afmiddleware.limits.strangers import EVERYBODY
from afmiddleware.model.entry import (
    Closed,
    Conclusion,
    Entry,
    Held,
    InForce,
    Item,
    KeyUse,
    NewEpoch,
    Once,
    Order,
    Ping,
    Record,
    Settle,
)
from afmiddleware.model.outcome import Answer
from afmiddleware.model.receipt import ANONYMOUS, OPERATOR, Filled, ReceiptRef, Seal
from afmiddleware.receipts.chain import Head, append
from afmiddleware.receipts.record import WINDOW, aggregates, window_of
from afmiddleware.receipts.verify import StoredReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.limits.breaker import Guard
    from afmiddleware.limits.cells import Cell
    from afmiddleware.limits.together import Weighed
    from afmiddleware.model.api_key import ApiKeyRecord
    from afmiddleware.model.receipt import Body, Draft, Value
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.receipts.chain import Written
    from afmiddleware.receipts.keys import ReceiptKeys

FLUSH_AFTER: Final = WINDOW
"""How long refusals of anonymous callers are only counted before the count is recorded, in microseconds."""

_COUNTED_APART: Final = 500
_KEY: Final = attrgetter("key")
_pack = msgspec.msgpack.Encoder().encode


class Books:
    """The state one batch works on, and what it has changed.

    `now` is in microseconds since the epoch; `draw` gives random bytes for salts. `leases` tells until when the
    processes that run requests are trusted to live, `holder` which of them this is, and `renewed` its lease when
    that has to be written. `api_keys` are the records that the batch changes, `records` what was recorded and is to be
    carried out. With `waits` outcomes are collected in `waiting`, to be put into the log many at once by
    `catch_up`: at any time, but before anybody looks.
    """

    def __init__(self, head: Head, keys: ReceiptKeys, draw: Callable[[int], bytes]) -> None:
        self.head = head
        self.rows: dict[str, Row] = {}
        self.holds: dict[str, Hold] = {}
        self.now = 0
        self.written: list[Written] = []
        self.changed: set[str] = set()
        self.changed_holds: set[str] = set()
        self.claims: dict[str, Claimed] = {}
        self.changed_claims: dict[str, Claimed | None] = {}
        self.texts: dict[str, bytes] = {}
        self.api_keys: dict[str, ApiKeyRecord] = {}
        self.records: list[Record] = []
        self.turned_away: dict[tuple[int, str, str], int] = {}
        self.turned_away_since = 0
        self.seal: Seal | None = None
        self.leases: dict[int, int] = {}
        self.holder = 0
        self.renewed = 0
        self.room = Room()
        self.waits = False
        self.waiting: list[Draft] = []
        self._keys = keys
        self._draw = draw

    def perform(self, item: Item) -> Held | Closed | AFError:
        """Decide one item and book it whole. A fault of the item alone is its answer, and leaves no trace."""
        try:
            if isinstance(item, Entry):
                if (late := stale(item, self.rows)) is not None:
                    return late
                return admit_together(self, item) if item.others else self._admit(item)
            if isinstance(item, Conclusion):
                return conclude(self, item)
            if isinstance(item, Settle):
                return settle(self, item)
            if isinstance(item, InForce):
                return put_in_force(self, item)
            if isinstance(item, NewEpoch):
                return begin(self, item)
            if isinstance(item, Record):
                return note(self, item)
            if isinstance(item, Once):
                return once(self, item)
            if isinstance(item, KeyUse):
                return note_use(self, item)
            if isinstance(item, Ping):
                return stale(item, self.rows) or Closed(booked=False, state="ready")
            return perform_order(self, item) if isinstance(item, Order) else expire(self, item.id)
        except AFError as error:
            return error

    def lease(self, holder: int, until: int, leases: dict[int, int]) -> None:
        """Trust the processes in `leases` to live, and this one, whose own lease runs `until`, from now on."""
        self.holder, self.leases = holder, leases
        if until < self.now + LEASE - RENEWED:
            self.renewed = until = self.now + LEASE
        leases[holder] = until

    def columns(self) -> list[tuple[int, bytes, bytes, bytes, str, str, str, str, str, int, bytes | None]]:
        """The rows an SQL ledger stores of this batch's receipts: each, and what it can be found by."""
        return [
            (
                (receipt := written.receipt(self._keys)).seq,
                receipt.body,
                receipt.leaf,
                receipt.mac,
                written.draft.kind,
                *_found_by(written.draft.body),
                written.ts,
                _pack(receipt.disclosed) if receipt.disclosed else None,
            )
            for written in self.written
        ]

    def stored(self, written: Written) -> StoredReceipt:
        """A receipt as it is read back."""
        decision, capability, verdict, code = _found_by(written.draft.body)
        return StoredReceipt(
            receipt=written.receipt(self._keys),
            columns={
                "kind": written.draft.kind,
                "decision": decision,
                "capability": capability,
                "verdict": verdict,
                "code": code,
                "ts": written.ts,
            },
        )

    def sign(self, message: bytes) -> bytes:
        """Authenticate what is kept beside the log."""
        return self._keys.sign(message)

    def flush_turned_away(self) -> None:
        """Record how many anonymous requests were refused since the last time, if any were."""
        for draft in aggregates(ANONYMOUS, self.turned_away):
            self.append(draft, ANONYMOUS)
        self.turned_away.clear()

    def _admit(self, entry: Entry) -> Held:
        entry = capped(fit(self, entry), self.rows)
        rates = weigh_rates(entry, self.rows, self.now)
        # What is denied or frozen now is not told again what it was told when it was not.
        if entry.claim is not None and rates[1] < 0 and not entry.dry and self._is_heard(entry):
            met = meet(self, entry)
            if isinstance(met, Answer):
                return self._replay(entry, rates, met)
            if met is not None:
                entry = replace(entry, verdict=met)
        spends = weigh(entry.spends, self.rows, self.now)
        # Rates speak before anything else is said; money is only looked at for what is otherwise admitted.
        verdict, guarded = judge(entry, rates, spends, self.rows, self.leases, self.now)
        receipt = None
        if not entry.dry:
            passes = _passes(entry, verdict)
            receipt = self._record(entry, verdict, passes=passes)
            count_rates(entry, rates, passes=passes, over=entry.observe)
            lines = count_spends(entry.spends, spends[0]) if passes else []
            self._reserve(entry, lines, receipt, guarded, passes=passes)
        told = balances(entry.rates + entry.spends, rates[0] + spends[0])
        if entry.dry and entry.slots and type(entry) is not Counted:
            told = with_slots(told, entry.slots, self.rows, self.leases, self.now)
        return Held(verdict, receipt, told)

    def _is_heard(self, entry: Entry) -> bool:
        return entry.observe or stopped(entry.verdict, entry, self.rows).authorized

    def _replay(self, entry: Entry, rates: tuple[list[Cell], int], answer: Answer) -> Held:
        """Give the answer again that the key's first request got. It is judged, so its rate is counted."""
        count_rates(entry, rates, passes=False)
        if type(entry) is not Counted:
            self.changed.update([charge.key for charge in entry.rates])
        return Held(entry.verdict, None, balances(entry.rates, rates[0]), replay=answer)

    def enter(self, entry: Entry, weighed: Weighed) -> ReceiptRef | None:
        """Record one of several actions whose charges are counted already."""
        passes = _passes(entry, weighed.verdict)
        receipt = self._record(entry, weighed.verdict, passes=passes)
        self._reserve(entry, weighed.lines, receipt, weighed.guarded, passes=passes)
        return receipt

    def _record(self, entry: Entry, verdict: Verdict, *, passes: bool) -> ReceiptRef | None:
        if passes or not entry.quiet:
            return self._put(entry.record(verdict), entry.owner)
        if not verdict.authorized:
            self._turn_away(entry, verdict)
        return None

    def _reserve(
        self,
        entry: Entry,
        lines: list[Line],
        receipt: ReceiptRef | None,
        guarded: Guard | None,
        *,
        passes: bool,
    ) -> None:
        """Hold what was counted for an action that passes; note which rows changed."""
        changed = self.changed
        if type(entry) is not Counted:
            changed.update(map(_KEY, entry.rates))
        if guarded is not None and not entry.trial:
            changed |= latch(entry, guarded, self.rows, self.now, passes=passes)
        if not passes:
            return
        changed.update(map(_KEY, entry.spends))
        hold = self._hold(entry, lines, receipt)
        if entry.claim is not None:
            claim(self, entry, hold)
        if entry.slots:
            hold.slots = take(entry.slots, self.rows, self.leases, self.now, self.holder)
            changed.update(slot.key for slot in hold.slots)

    def _hold(self, entry: Entry, lines: list[Line], receipt: ReceiptRef | None) -> Hold:
        leaf = receipt.leaf if receipt is not None else b""
        money = entry.money
        if money is None:
            hold = Hold(entry.owner, "held", 0, "", 0, leaf, self.now, lines, entry.capability)
        else:
            currency, exponent = money.currency, money.exponent
            hold = Hold(entry.owner, "held", money.minor, currency, exponent, leaf, self.now, lines, entry.capability)
            hold.reserved = money.minor
        if entry.refund is not None:
            hold.refund = sought(self, entry.refund)
        if entry.on_expiry is not None:
            hold.due, hold.then = self.now + entry.on_expiry.after, entry.on_expiry.then
        if entry.on_unknown is not None:
            hold.unknown_after, hold.unknown_then = entry.on_unknown.after, entry.on_unknown.then
        self.holds[entry.id] = hold
        self.changed_holds.add(entry.id)
        return hold

    def append(self, draft: Draft, owner: str) -> ReceiptRef:
        """Put a receipt of `owner` at the end of the log, after those that wait."""
        if self.waiting:
            self.catch_up()
        return self._put(draft, owner)

    def append_end(self, draft: Draft) -> ReceiptRef | None:
        """Put the outcome of an intent into the log, or let it wait where outcomes are written in batches."""
        if not self.waits:
            return self._put(draft, draft.owner)
        self.waiting.append(draft)
        return None

    def rebooked(self, lines: Sequence[Line]) -> None:
        """Note that these counters have changed; one that was over, and dropped since, has nothing that could."""
        self.changed.update([line.key for line in lines if line.key in self.rows])

    def catch_up(self) -> None:
        """Put what waits into the log."""
        waiting, self.waiting = self.waiting, []
        for draft in waiting:
            self._put(draft, draft.owner)

    def _put(self, draft: Draft, owner: str) -> ReceiptRef:
        key, head = f"actor:{owner}", self.head
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row({})
        made = append(draft, head, row, self._keys, self.now, self._draw)
        leaf = made.leaf
        self.head = Head(head.log, made.seq, leaf, made.ts)
        row.oseq, row.oprev = made.oseq, leaf
        self.changed.add(key)
        self.written.append(made)
        return ReceiptRef(head.log, made.seq, leaf, self.seal)

    def _turn_away(self, entry: Entry, verdict: Verdict) -> None:
        if not self.turned_away:
            self.turned_away_since = self.now
        window = window_of(entry.id, self.now)
        what = (window, verdict.code, entry.counted)
        if what not in self.turned_away and len(self.turned_away) >= _COUNTED_APART:
            # A caller may invent methods; what it invents is counted together.
            what = (window, verdict.code, "")
        self.turned_away[what] = self.turned_away.get(what, 0) + 1


def _found_by(body: Body | Filled | Mapping[str, Value]) -> tuple[str, str, str, str]:
    """The decision, capability, verdict and reason code of a receipt, empty where it has none."""
    if isinstance(body, Filled):
        return body.id, body.capability, body.verdict, body.code
    plain = msgspec.structs.asdict(body) if isinstance(body, msgspec.Struct) else body
    decision, capability, verdict, code = (str(plain.get(name, "")) for name in ("id", "capability", "verdict", "code"))
    return decision, capability, verdict, code


def _passes(entry: Entry, verdict: Verdict) -> bool:
    """Whether the handler is about to run."""
    return (verdict.authorized or entry.observe) and not entry.trial


def claims_of(items: Sequence[Item]) -> list[str]:
    """The idempotency keys and references a batch names, and what it uses up."""
    found: set[str] = set()
    for item in items:
        if isinstance(item, Entry):
            for one in (item, *item.others):
                found.update(part.key for part in (one.claim, one.refund) if part is not None)
        elif isinstance(item, Conclusion):
            found.update((item.claim, item.reference))
        elif isinstance(item, Once):
            found.add(item.key)
    return sorted(found - {""})


def crowds(items: Sequence[Item]) -> bool:
    """Whether a batch asks for slots, so that it has to be known which processes live."""
    return any(isinstance(item, Entry) and item.slots for item in items)


def keys_of(items: Sequence[Item]) -> tuple[set[str], set[str]]:
    """The row keys and the reservation ids that a batch names; the rows of those reservations come on top."""
    rows: set[str] = {f"actor:{ANONYMOUS}", CONTROL}
    holds: set[str] = set()
    for item in items:
        if isinstance(item, Order):
            rows.update((item.key, f"actor:{OPERATOR}"))
            continue
        if isinstance(item, NewEpoch):
            rows.add(f"actor:{OPERATOR}")
            holds.update(item.open)
            continue
        if isinstance(item, Record | InForce):
            rows.add(f"actor:{item.draft.owner if isinstance(item, Record) else OPERATOR}")
            continue
        if isinstance(item, Once | Ping):
            continue
        if isinstance(item, KeyUse):
            rows.add(use_row(item.key_id))
            continue
        if not isinstance(item, Entry):
            holds.add(item.id)
            continue
        for one in (item, *item.others):
            rows.add(f"actor:{one.owner}")
            rows.update(charge.key for charge in one.rates if type(one) is not Counted)
            rows.update(charge.key for charge in one.spends)
            rows.update(charge.key for charge in one.slots)
            if one.actor:
                rows.update(f"actor:{name}" for name in (*names_of(one), EVERYBODY))
                rows.update(key for charge in (*one.rates, *one.spends, *one.slots) for key in charge.wider)
    return rows, holds
