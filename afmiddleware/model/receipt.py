"""Receipts: what is asked to be recorded, and what was recorded."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

ANONYMOUS = "anonymous"
"""The owner of receipts that nobody has proven to be theirs."""

OPERATOR = "operator"
"""The owner of what is recorded about the log and the fence themselves, and of orders."""

KINDS: Final = (
    *("intent", "refusal", "dry_run", "outcome", "resolution", "refund", "aggregate"),
    *("policy", "operation", "rotation", "redaction", "epoch", "carried"),
)
"""What a receipt can be."""

PRIVATE: tuple[str, ...] = (
    "actor",
    "credential",
    "on_behalf_of",
    "payload",
    "peer",
    "recipient",
    "request",
    "resource",
)
"""The members of a decision's receipt that are stored as commitments."""

Value = str | int | bool | list["Value"] | dict[str, "Value"]
"""What a receipt body may hold: no floats, no nulls; integers within +-(2^53 - 1)."""


MAX_INTEGER: Final = 2**53 - 1
"""The largest integer of a receipt: the largest that any reader of JSON has exactly (RFC 8785)."""

Bounded = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class DecisionBody(msgspec.Struct, kw_only=True, gc=False):
    """The body of an `intent` or a `refusal`. Its members are in canonical order, so it is encoded as it stands.

    What `receipts.chain` fills in has a default here; `clock_back` is left out unless it is set. `c` are the
    commitments in their canonical bytes. `withheld` are the members whose values were never kept.
    """

    amount: str
    c: msgspec.Raw = msgspec.Raw(b"{}")
    capability: str
    category: str
    charges: list[dict[str, str]]
    clock_back: bool | msgspec.UnsetType = msgspec.UNSET
    code: str
    currency: str
    environment: str
    exponent: Bounded
    flags: tuple[str, ...]
    id: str
    kid: str = ""
    kind: str = ""
    limit: str
    log: str = ""
    mode: str
    network: str
    oprev: str = ""
    oseq: Bounded = 0
    owner: str = ""
    policy: str
    prev: str = ""
    proof: str
    route: str
    rule: str
    seq: Bounded = 0
    tier: str
    ts: Bounded = 0
    v: Bounded = 0
    verdict: str
    withheld: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class OutcomeBody(msgspec.Struct, kw_only=True, gc=False):
    """The body of an `outcome`, likewise.

    `overrun`: minor units spent beyond the reservation. `by` is there when somebody else than the handler said it.
    """

    by: str | msgspec.UnsetType = msgspec.UNSET
    capability: str
    captured: str
    clock_back: bool | msgspec.UnsetType = msgspec.UNSET
    currency: str
    end: str
    exponent: Bounded
    id: str
    kid: str = ""
    kind: str = ""
    log: str = ""
    oprev: str = ""
    oseq: Bounded = 0
    overrun: str | msgspec.UnsetType = msgspec.UNSET
    owner: str = ""
    prev: str = ""
    ref: str
    seq: Bounded = 0
    settlement: str
    status: Bounded
    ts: Bounded = 0
    v: Bounded = 0


Body = DecisionBody | OutcomeBody
"""The bodies that every request makes; those of the rarer kinds are mappings."""


class Form(msgspec.Struct, frozen=True, gc=False):
    """The canonical text of a body, cut where what differs from receipt to receipt goes in (`receipts.forms`).

    `text` has every second place blank; `back` is the same for a clock that ran backwards. `private` are the names of
    the members stored as commitments. The rest is what the receipt is found by.
    """

    text: tuple[str, ...]
    back: tuple[str, ...]
    private: tuple[str, ...]
    capability: str
    verdict: str
    code: str


class Filled(msgspec.Struct, frozen=True, gc=False):
    """A body as a form with its blanks filled in, in canonical order, but for those that the chain knows.

    `values` are the private members, in the order of the form's. `first` comes before their commitments, `then` after
    them, `last` between what the chain says of the receipt before and of this one.
    """

    form: Form
    id: str
    values: tuple[str | None, ...] = ()
    first: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    @property
    def capability(self) -> str:
        """What was asked for."""
        return self.form.capability

    @property
    def verdict(self) -> str:
        """`allow` or `refuse`; empty for an outcome."""
        return self.form.verdict

    @property
    def code(self) -> str:
        """The reason code; empty for an outcome."""
        return self.form.code


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A receipt before it has a place in the log.

    `owner` is the actor it belongs to. `body` holds the plain members (those that are never redacted); `private` the
    members stored only as salted commitments, `None` for an absent one: all members of a kind are always listed, so
    that presence does not leak. A body that is `Filled` brings its own. Those in `withheld` are committed to with a
    salt of the log's key, and never stored.
    """

    kind: str
    owner: str
    body: Body | Filled | Mapping[str, Value]
    private: Mapping[str, str | None] = MappingProxyType({})
    withheld: frozenset[str] = frozenset()


class Seal(msgspec.Struct, gc=False):
    """The signed checkpoint of the batch a receipt was committed in: how many receipts it covers, and their root.

    Filled in when the batch is signed; `size` is 0 until then.
    """

    size: int = 0
    root: bytes = b""
    signature: bytes = b""


class ReceiptRef(msgspec.Struct, frozen=True, gc=False):
    """Where a receipt stands: the log's id, its sequence number (from 1) and its leaf hash (32 bytes).

    `seal` is shared by the batch, `None` where the log is signed on demand.
    """

    log: str
    seq: int
    leaf: bytes
    seal: Seal | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored receipt: the exact bytes that were hashed, the leaf, the HMAC over the leaf, and the disclosures.

    `disclosed` maps a private member to its salt (16 bytes) and value; a redacted one is missing.
    """

    seq: int
    body: bytes
    leaf: bytes
    mac: bytes
    disclosed: Mapping[str, tuple[bytes, str | None]] = MappingProxyType({})
