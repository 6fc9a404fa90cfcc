"""A new log in the place of one that lost its tail, was rewritten or is gone: the gap stands in its first record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.ledger.orders import OPERATOR
from afmiddleware.model.entry import Closed
from afmiddleware.receipts.record import carried, epoch

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.model.entry import NewEpoch


def begin(books: Books, item: NewEpoch) -> Closed:
    """Write the first records of a log: what came before it, and every reservation that is still open.

    An outcome ends an intent of its own log, so each open reservation goes on from the record that carries it over.
    """
    receipt = books.append(epoch(OPERATOR, item), OPERATOR)
    for name in item.open:
        hold = books.holds.get(name)
        if hold is not None and hold.state == "held":
            draft = carried(name, hold.owner, hold.capability, hold.leaf, hold.amount, hold.currency, hold.exponent)
            hold.leaf = books.append(draft, hold.owner).leaf
            books.changed_holds.add(name)
    return Closed(booked=True, receipt=receipt, state=books.head.log)
