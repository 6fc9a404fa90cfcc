"""What the operator orders: effective at the next commit of every process, and recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.ledger.kept import rows_of
from afmiddleware.limits.breaker import reset
from afmiddleware.limits.cells import NEVER, Cell
from afmiddleware.limits.generations import activated, started, superseded, taken_up
from afmiddleware.limits.rows import More, Row
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model.entry import Closed, Order, Record
from afmiddleware.model.receipt import OPERATOR
from afmiddleware.receipts.record import operation, policy_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.rows import Generation
    from afmiddleware.model.api_key import ApiKeyRecord
    from afmiddleware.model.entry import InForce, Item, KeyUse
    from afmiddleware.model.revocation import Revocation

RELEASE: Final = "policy.release"
"""The order that ends a pin: other policies may be put in force again."""

_ACTIVATE: Final = "activate"
_BESIDE: Final = (
    "policy %s decides from here on (generation %d); processes that run go on with %s until they end. To let one alone "
    "decide: afmiddleware policy activate"
)
_log = logging.getLogger("afmiddleware.ledger")


def perform_order(books: Books, order: Order) -> Closed:
    """Do what is ordered. An order that changes nothing is not recorded, and says so."""
    row = books.rows.get(order.key) or Row({})
    if not _would_change(row, order):
        return Closed(booked=False, state=order.what)
    # That shared counters begin is nothing new; that they begin again is.
    recorded = order.what != "begin" or bool(row.cells)
    receipt = books.append(operation(OPERATOR, order), OPERATOR) if recorded else None
    row = books.rows.setdefault(order.key, row)
    if order.what == "begin":
        row.cells = {order.name: Cell(NEVER, 0, 0, [])}
        books.changed.add(order.key)
    if order.what in ("begin", "reopen"):
        return Closed(booked=True, receipt=receipt, state=order.what)
    more = row.more = row.more or More()
    if order.what == RELEASE and more.generation is not None:
        more.generation = replace(more.generation, pinned=False)
    elif order.what == "freeze":
        more.frozen[order.name] = order.reason
    elif order.what == "unfreeze":
        del more.frozen[order.name]
    elif order.what == "cap":
        more.caps[order.name] = (order.value, order.override)
    elif order.what == "uncap":
        del more.caps[order.name]
    else:
        reset(row, order.name)
    if row.more == More():
        row.more = None
    books.changed.add(order.key)
    return Closed(booked=True, receipt=receipt, state=order.what)


def note(books: Books, record: Record) -> Closed:
    """Record what is done with it, unless the API key that it changes was changed by another in the meantime."""
    if record.over is not None and books.api_keys.get(record.over.id) != record.over:
        return Closed(booked=False, state="key")
    receipt = books.append(record.draft, record.draft.owner)
    if record.api_key is not None:
        books.api_keys[record.api_key.id] = record.api_key
    books.records.append(record)
    return Closed(booked=True, receipt=receipt)


def changed_keys(items: Sequence[Item]) -> set[str]:
    """The ids of the API keys that a batch changes, and that have to be loaded for it."""
    return {item.over.id for item in items if isinstance(item, Record) and item.over is not None}


def key_change(what: str, record: ApiKeyRecord, by: str, reason: str = "", over: ApiKeyRecord | None = None) -> Record:
    """The storing of an API key's record, on record: `what` is `key.new`, `key.import`, `key.rotate` or `key.revoke`.

    It is stored only `over` the one that it was made of, where that is named.
    Whose key it is, who changed it and why stand in the receipt only as commitments; the id of a key is public.
    """
    order = Order(what=what, key=f"key:{record.account}", name=record.id, by=by, reason=reason)
    return Record(operation(OPERATOR, order), api_key=record, over=over)


def use_row(key_id: str) -> str:
    """The key of the row that says when an API key was last good."""
    return f"used:{key_id}"


def note_use(books: Books, item: KeyUse) -> Closed:
    """Remember when an API key was last good."""
    key = use_row(item.key_id)
    row = books.rows.setdefault(key, Row({}))
    more = row.more = row.more or More()
    later = item.at > more.used
    if later:
        more.used = item.at
        books.changed.add(key)
    return Closed(booked=later)


def taking_back(revocation: Revocation, by: str, reason: str = "") -> Record:
    """The taking back of tokens, on record. Whose they were stands in the receipt only as a commitment."""
    target = f"{revocation.kind}:{revocation.issuer}|{revocation.name}"
    order = Order(what="token.revoke", key=target, name=revocation.kind, by=by, reason=reason)
    return Record(operation(OPERATOR, order), revocation=revocation)


def put_in_force(books: Books, item: InForce) -> Closed:
    """Record that another policy decides from here on, or the same one in another mode.

    The first policy of a log is only remembered: every decision names the one that made it. What is superseded, and
    stays so, decides nothing, so nothing is recorded of it.
    """
    books.texts |= rows_of(item, books.sign)
    row = books.rows.setdefault(CONTROL, Row({}))
    more = row.more = row.more or More()
    old, before, file = more.policy, more.generation, item.file or item.policy
    now = _next(before, item, file, books.now)
    if item.cause == _ACTIVATE:
        # Who decides by it says so itself, with the bindings of its own code.
        old, new = (before.digest if before is not None else "", old[1]), old
        changes = now != before
    elif superseded(now, file):
        return Closed(booked=False, state="policy")
    else:
        new = (item.policy, item.mode)
        changes = old != new
    if not changes and now == before:
        return Closed(booked=False, state="policy")
    receipt = None
    if changes and (item.cause == _ACTIVATE or any(old) or books.head.size):
        receipt = books.append(policy_change(OPERATOR, old, item, now.number), OPERATOR)
    more.policy, more.generation = new, now
    books.changed.add(CONTROL)
    if before is not None and now.number != before.number and item.cause == "start":
        _log.warning(_BESIDE, file[:16], now.number, before.digest[:16])
    return Closed(booked=receipt is not None, receipt=receipt, state="policy")


def _next(before: Generation | None, item: InForce, file: str, now: int) -> Generation:
    if item.cause == _ACTIVATE:
        return activated(before, file, now)
    if item.before in ("", file):
        return started(before, file, now)
    return taken_up(before, file, item.before, now)


def _would_change(row: Row, order: Order) -> bool:
    more = row.more or More()
    if order.what == "reopen":
        return True
    if order.what == RELEASE:
        return more.generation is not None and more.generation.pinned
    if order.what == "begin":
        return order.name not in row.cells
    if order.what == "freeze":
        return order.name not in more.frozen
    if order.what == "cap":
        return more.caps.get(order.name) != (order.value, order.override)
    if order.what == "unfreeze":
        return order.name in more.frozen
    return order.name in (more.caps if order.what == "uncap" else more.trips)
