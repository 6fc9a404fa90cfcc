"""What is asked of the ledger in one commit, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.model.api_key import ApiKeyRecord
from afmiddleware.model.limit import NO_BALANCES, Balances, Charge
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Answer, Outcome, Settlement
from afmiddleware.model.policy_text import PolicyText
from afmiddleware.model.receipt import Draft, ReceiptRef
from afmiddleware.model.revocation import Revocation
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything one judged request needs of the ledger: its charges and its receipt.

    `owner` is the actor whose receipts this one joins; `money` is what an admission reserves, for
    `capability`.
    `actor` is who acts where that is not the owner: an address that nobody knows. `named` says that some limit counts
    by what payloads name.
    `slots` are the limits on how many run at once; `guarded` means that a spend has an `on_exceed` of its own.
    `verdict` is the policy's; the ledger may turn an authorised one into a refusal by a limit. `record` makes the
    receipt of whatever the verdict becomes. With `quiet` a refusal is only counted (see `counted`, the key of that
    count: reason code is added to it). With `observe` everything is charged, over the cap too, and passes. With `dry`
    nothing is written; a `trial` is counted under the rates and recorded, and that is all. `others` are the further
    actions of the same request: all of them pass, or none is charged.
    `policy` is the digest of the file and lists that it was decided by: when that is superseded, the ledger does
    nothing and answers `StalePolicyError`. Empty for what no policy has to decide anew.
    """

    id: str
    owner: str
    verdict: Verdict
    record: Callable[[Verdict], Draft]
    rates: tuple[Charge, ...] = ()
    spends: tuple[Charge, ...] = ()
    slots: tuple[Charge, ...] = ()
    guarded: bool = False
    on_unknown: Keep | None = None
    on_expiry: Keep | None = None
    claim: Claim | None = None
    refund: Refund | None = None
    money: Money | None = None
    capability: str = ""
    quiet: bool = False
    counted: str = ""
    observe: bool = False
    dry: bool = False
    trial: bool = False
    actor: str = ""
    named: bool = False
    others: tuple[Entry, ...] = ()
    policy: str = ""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """An Idempotency-Key of one caller at one endpoint, for `keep` microseconds.

    `fingerprint` is the digest of the request: the same key for another request is refused.
    """

    key: str
    fingerprint: str
    keep: int


class Refund(msgspec.Struct, frozen=True, gc=False):
    """What an action gives back of an earlier one, which is found by `key`.

    `amount` is in minor units of `currency`, -1 for all that is left. The currency is empty where none was named.
    """

    key: str
    amount: int = -1
    currency: str = ""
    exponent: int = 0


class Keep(msgspec.Struct, frozen=True, gc=False):
    """For how many microseconds money that nobody settles stays counted, and what `then`: `capture` or `release`."""

    after: int
    then: str


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """The end of an admitted action, by the id of its decision: settle its reservation and record its outcome.

    `claim` is the key of its `Claim`, and `reference` that under which a later refund finds it; both may be empty.
    """

    id: str
    outcome: Outcome
    claim: str = ""
    reference: str = ""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A receipt about the log or the fence themselves: a rotation, a redaction, what an operator did.

    `new_key` is the public key that signs what comes after it, with `proof`, the old key's signature. `erase` are the
    private members whose values are deleted with it, of the receipts in the sequence numbers `erase_in`. `api_key` is
    the record of an API key that is stored with it, `revocation` a token that is taken back. `over` is the record that
    `api_key` takes the place of: where another is stored by then, nothing is done, and the answer is not booked.
    """

    draft: Draft
    new_key: bytes = b""
    proof: bytes = b""
    erase: tuple[str, ...] = ()
    erase_in: tuple[int, ...] = ()
    api_key: ApiKeyRecord | None = None
    over: ApiKeyRecord | None = None
    revocation: Revocation | None = None


class InForce(msgspec.Struct, frozen=True, gc=False):
    """That a policy decides from here on; recorded where another one did before.

    `policy` is its digest, `mode` `enforce` or `observe`; `cause` says why it is another one (`start`, `reload`,
    `activate`), `by` on whose word, and `reason` theirs. `file` is the digest of its file and lists alone, empty where
    that is its digest, and `before` that of the one that this process had until now. With `activate` it is the only
    one from here on. Its `text` is kept with it.
    """

    policy: str
    mode: str
    cause: str = "start"
    by: str = ""
    reason: str = ""
    file: str = ""
    before: str = ""
    text: PolicyText | None = None


class Settle(msgspec.Struct, frozen=True, gc=False):
    """What somebody knows of an admitted action besides its handler's answer.

    `amount` is what was really spent, in major units of the action's currency (`12.50`), empty for all that was
    reserved; `by` says who knows it, for the record.
    """

    id: str
    settlement: Settlement
    amount: str = ""
    by: str = ""


class Once(msgspec.Struct, frozen=True, gc=False):
    """Something that may be used once within `keep` microseconds: the id of a proof, a nonce.

    `key` names it among all that use this, so it begins with what it is (`dpop:...`). The answer is booked for whoever
    comes first, over every thread, process and host of the ledger; it leaves no receipt.
    """

    key: str
    keep: int


class KeyUse(msgspec.Struct, frozen=True, gc=False):
    """The API key with this id was good `at` a time (microseconds since the epoch). It leaves no receipt."""

    key_id: str
    at: int


class Expire(msgspec.Struct, frozen=True, gc=False):
    """A reservation whose deadline may be past."""

    id: str


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Whether a commit can be made now. It is made like any other, and changes nothing.

    With a `policy`, the digest of the file and lists that would decide, `StalePolicyError` is the answer as to an
    `Entry`.
    """

    policy: str = ""


class Held(msgspec.Struct, frozen=True, gc=False):
    """The answer to an `Entry`: the final verdict, where its receipt stands, and how its limits stand now.

    `others` are the answers to its `others`. With a `replay` the same request was answered before, with this; nothing
    is charged, and it does not run again.
    """

    verdict: Verdict
    receipt: ReceiptRef | None = None
    balances: Balances = NO_BALANCES
    others: tuple[Held, ...] = ()
    replay: Answer | None = None


class Closed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to everything but an `Entry`.

    `booked` is false when there is nothing to conclude: an unknown id (with an empty `state`), or one that was
    concluded before. `state` is that of the reservation now.
    """

    booked: bool
    state: str = ""
    receipt: ReceiptRef | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something the operator wants, recorded like everything else.

    `what` is `freeze` or `unfreeze` (the row, or in the row `control` the capability pattern `name`), `cap` or `uncap`
    (the limit `name`, to `value`; with `override` also wider than the policy has it), `reset` (the breaker of the
    counter `name`); or, of counters that hosts share, `begin` (the epoch `name`) and `reopen` (what is closed because
    some were lost; here that is only recorded); or `policy.release`, in the row `control`: the policy `name` is no
    longer the only one. `key` is the row's key. `by` and `reason` are for the record.
    """

    what: str
    key: str
    name: str = ""
    value: int = 0
    override: bool = False
    by: str = ""
    reason: str = ""


class NewEpoch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A new log in the place of one that cannot be continued: its first record says what is known of the old one.

    `old` is what the last mark outside the ledger has seen of it: log, size, leaf (hex) and signed checkpoint; `found`
    is what the ledger still held: log, size, leaf (hex). `open` are the reservations that are carried over. `reason`
    and `by` are for the record.
    """

    old: tuple[str, int, str, str]
    reason: str
    by: str
    found: tuple[str, int, str] = ("", 0, "")
    open: tuple[str, ...] = ()


Item = Entry | Conclusion | Settle | Expire | Order | Record | InForce | Once | KeyUse | NewEpoch | Ping
"""What a ledger commits."""
