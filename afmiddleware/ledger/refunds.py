"""What was captured and is given back: to the windows that were charged, never more than was captured, once.

An action is found again by its reference: what its answer called it, among the actions of its own caller alone. It is
noted when the action is captured. A refund looks for it at its admission, and gives back when it was performed itself:
of what is not found nothing is given back, whatever its handler does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.ledger.claims import REFERENCE, Claimed, put_claim
from afmiddleware.ledger.sweep import SETTLED_KEPT
from afmiddleware.limits.charge import give_back
from afmiddleware.limits.rows import Refunding
from afmiddleware.model.outcome import Settlement
from afmiddleware.receipts.record import refund as refund_draft

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.rows import Hold
    from afmiddleware.model.entry import Refund


def sought(books: Books, asked: Refund) -> Refunding:
    """Of which decision an action is to give back."""
    found = books.claims.get(asked.key)
    known = found is not None and found.state == REFERENCE and found.expires > books.now
    return Refunding(found.hold if known and found is not None else "", asked.amount, asked.currency, asked.exponent)


def follow(books: Books, name: str, hold: Hold, said: int | None, reference: str) -> None:
    """What follows when an action was performed: its reference is noted, and what it refunds is given back.

    `said` is how much that was, where that is known better than when it was admitted.
    """
    if hold.state != Settlement.CAPTURE:
        return
    first = not reference or _note(books, name, hold, reference)
    if hold.refund is not None and first:
        _give(books, name, hold, hold.refund, said)


def _note(books: Books, name: str, hold: Hold, key: str) -> bool:
    """Note under which reference an action can be found; whether it is the only one that is called so."""
    found = books.claims.get(key)
    known = found is not None and found.expires > books.now
    if known and found is not None and found.hold == name:
        return True
    # Nobody can tell which of two is meant, so of neither anything is given back.
    put_claim(books, key, Claimed("", REFERENCE, books.now, books.now + SETTLED_KEPT, None, "" if known else name))
    hold.referenced = not known
    books.changed_holds.add(name)
    return not known


def _give(books: Books, name: str, hold: Hold, asked: Refunding, said: int | None) -> None:
    captured = books.holds.get(asked.of)
    if captured is None or captured.owner != hold.owner:
        return
    wanted = said if said is not None else asked.amount
    if wanted >= 0 and (captured.currency, captured.exponent) != (asked.currency, asked.exponent):
        return
    amount = captured.amount if wanted < 0 else min(wanted, captured.amount)
    if not amount:
        return
    left = captured.amount - amount
    draft = refund_draft(
        asked.of, captured.owner, captured.capability, captured.leaf, captured.currency, captured.exponent,
        amount=amount, left=left, by=name,
    )  # fmt: skip
    books.append(draft, captured.owner)
    captured.lines = give_back(captured.lines, books.rows, amount)
    captured.amount = left
    books.rebooked(captured.lines)
    books.changed_holds.add(asked.of)
