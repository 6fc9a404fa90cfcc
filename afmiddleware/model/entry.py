"""What is asked of the ledger in one commit, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.model.limit import Balance, Charge
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Outcome
from afmiddleware.model.receipt import Draft, ReceiptRef
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything one judged request needs of the ledger: its charges and its receipt.

    `owner` is the actor whose receipts this one joins; `money` is what an admission reserves, for
    `capability`.
    `slots` are the limits on how many run at once; `guarded` means that a spend has an `on_exceed` of its own.
    `verdict` is the policy's; the ledger may turn an authorised one into a refusal by a limit. `record` makes the
    receipt of whatever the verdict becomes. With `quiet` a refusal is only counted (see `counted`, the key of that
    count: reason code is added to it). With `observe` everything is charged, over the cap too, and passes. With `dry`
    nothing is written. `others` are the further actions of the same request: all of them pass, or none is charged.
    """

    id: str
    owner: str
    verdict: Verdict
    record: Callable[[Verdict], Draft]
    rates: tuple[Charge, ...] = ()
    spends: tuple[Charge, ...] = ()
    slots: tuple[Charge, ...] = ()
    guarded: bool = False
    money: Money | None = None
    capability: str = ""
    quiet: bool = False
    counted: str = ""
    observe: bool = False
    dry: bool = False
    others: tuple[Entry, ...] = ()


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """The end of an admitted action, by the id of its decision: settle its reservation and record its outcome."""

    id: str
    outcome: Outcome


class Record(msgspec.Struct, frozen=True, gc=False):
    """A receipt about the log or the fence themselves: a rotation, a redaction, what an operator did.

    `new_key` is the public key that signs what comes after it, with `proof`, the old key's signature. `erase` are the
    private members whose values are deleted with it, of the receipts in the sequence numbers `erase_in`.
    """

    draft: Draft
    new_key: bytes = b""
    proof: bytes = b""
    erase: tuple[str, ...] = ()
    erase_in: tuple[int, ...] = ()


class Held(msgspec.Struct, frozen=True, gc=False):
    """The answer to an `Entry`: the final verdict, where its receipt stands, and how its limits stand now.

    `others` are the answers to its `others`.
    """

    verdict: Verdict
    receipt: ReceiptRef | None = None
    balances: tuple[Balance, ...] = ()
    others: tuple[Held, ...] = ()


class Closed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a `Conclusion`, or to a `Record`.

    `booked` is false when there is nothing to conclude: an unknown id, or one that was concluded before.
    """

    booked: bool
    receipt: ReceiptRef | None = None
