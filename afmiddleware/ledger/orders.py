"""What the operator orders: effective at the next commit of every process, and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afmiddleware.limits.breaker import reset
from afmiddleware.limits.cells import NEVER, Cell
from afmiddleware.limits.rows import More, Row
from afmiddleware.model.entry import Closed
from afmiddleware.receipts.record import operation

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.model.entry import Order

OPERATOR: Final = "operator"
"""The owner of the receipts of orders."""


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
        return Closed(booked=True, receipt=receipt, state=order.what)
    more = row.more = row.more or More()
    if order.what == "freeze":
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


def _would_change(row: Row, order: Order) -> bool:
    more = row.more or More()
    if order.what == "begin":
        return order.name not in row.cells
    if order.what == "freeze":
        return order.name not in more.frozen
    if order.what == "cap":
        return more.caps.get(order.name) != (order.value, order.override)
    if order.what == "unfreeze":
        return order.name in more.frozen
    return order.name in (more.caps if order.what == "uncap" else more.trips)
