"""Booking the actions of one request together: one decision, one receipt each, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.errors import AFError
from afmiddleware.ledger.room import fit
from afmiddleware.limits.charge import balances
from afmiddleware.limits.rows import pack, unpack_row
from afmiddleware.limits.together import weigh_together
from afmiddleware.model.entry import Held
from afmiddleware.model.limit import Balances

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.together import Weighed
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.limit import Balance
    from afmiddleware.model.receipt import ReceiptRef


def admit_together(books: Books, entry: Entry) -> Held:
    """Decide an entry with its `others` and book them. A fault of one of them leaves no trace of any.

    The balances of all stand in the first answer.
    """
    entries = tuple(fit(books, one) for one in (entry, *entry.others))
    keys = {f"actor:{one.owner}" for one in entries}
    keys.update(charge.key for one in entries for charge in (*one.rates, *one.spends, *one.slots))
    before = {key: pack(books.rows[key]) for key in keys if key in books.rows}
    head, written, turned_away, changed = books.head, len(books.written), dict(books.turned_away), set(books.changed)
    found = weigh_together(entries, books.rows, books.leases, books.now)
    standing = _standing(entries, found)
    if not entry.dry:
        try:
            receipts: list[ReceiptRef | None] = [
                books.enter(one, weighed) for one, weighed in zip(entries, found, strict=True)
            ]
        except AFError:
            books.head, books.turned_away, books.changed = head, turned_away, changed
            del books.written[written:]
            for one in entries:
                books.holds.pop(one.id, None)
                books.changed_holds.discard(one.id)
            _restore(books, keys, before)
            raise
    else:
        receipts = [None] * len(entries)
        _restore(books, keys, before)
    held = [Held(verdict=one.verdict, receipt=receipt) for one, receipt in zip(found, receipts, strict=True)]
    return Held(verdict=held[0].verdict, receipt=held[0].receipt, balances=standing, others=tuple(held[1:]))


def _standing(entries: tuple[Entry, ...], found: list[Weighed]) -> Balances:
    """How each limit stands after all of them, once."""
    standing: dict[tuple[str, str], Balance] = {}
    for entry, one in zip(entries, found, strict=True):
        charges = (*entry.rates, *entry.spends)
        for charge, balance in zip(charges, balances(charges, [*one.rates, *one.spends]), strict=True):
            standing[charge.limit.name, charge.key] = balance
    return Balances.of(standing.values())


def _restore(books: Books, keys: set[str], before: dict[str, bytes]) -> None:
    for key in keys:
        if key in before:
            books.rows[key] = unpack_row(before[key])
        else:
            books.rows.pop(key, None)
