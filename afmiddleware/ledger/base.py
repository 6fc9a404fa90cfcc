"""What a ledger is: the protocol that memory, SQLite and every later store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from afmiddleware.limits.rows import Row

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from afmiddleware.identity.api_keys import ApiKeyRecord
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.limits.rows import Hold
    from afmiddleware.model.entry import Closed, Held, Item
    from afmiddleware.model.policy_text import PolicyText
    from afmiddleware.model.revocation import Revocation
    from afmiddleware.receipts.chain import Head
    from afmiddleware.receipts.keys import ReceiptKeys
    from afmiddleware.receipts.merkle import Frontier
    from afmiddleware.receipts.notary import SigningKey
    from afmiddleware.receipts.verify import StoredReceipt


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which receipts to read: everything that is empty matches. `after` is a sequence number."""

    kind: str = ""
    capability: str = ""
    verdict: str = ""
    decision: str = ""
    after: int = 0


class Reader(Protocol):
    """What can be read of a ledger. All raise `LedgerUnavailableError` for a fault of the store."""

    def head(self) -> Head:
        """The end of the receipt log."""
        ...

    def receipts(self, wanted: Filter) -> Iterator[StoredReceipt]:
        """Stored receipts in order of their sequence numbers."""
        ...

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Up to `count` hashes of the log's tree from index `first` on: leaves (0), or a stored level (8, 16, ...)."""
        ...

    def checkpoint(self) -> str:
        """The last signed checkpoint, a C2SP note; empty while nothing is signed."""
        ...

    def checkpoints(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """The signed checkpoints of more than `after` receipts, by their sizes."""
        ...

    def signing_keys(self) -> list[SigningKey]:
        """The public keys of the log, the oldest first."""
        ...

    def frontier(self) -> Frontier:
        """The tree at the end of the log, as stored."""
        ...

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """Copies of the counters of `keys`; a key without any is missing."""
        ...

    def marked(self) -> Iterator[tuple[str, Row]]:
        """Copies of the rows that say more than counters do: breakers that are open, caps, what is frozen or runs.

        Each comes with its key, which is empty where it was too long for an index.
        """
        ...

    def holds(self, state: str = "held", owner: str = "") -> Iterator[tuple[str, Hold]]:
        """Reservations in a state, by decision id; with an `owner` those of that actor."""
        ...

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """One API key's record; revoked and expired ones too."""
        ...

    def api_keys(self) -> list[ApiKeyRecord]:
        """Every API key's record, oldest first."""
        ...

    def revocations(self) -> list[Revocation]:
        """Every token that was taken back, also those that have ended since."""
        ...

    def policy(self, beginning: str) -> PolicyText | None:
        """The text of the one policy whose digest begins so; `None` where none or several do, or it was not kept."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of every resource. Idempotent."""
        ...


class Ledger(Reader, Protocol):
    """State shared by everybody who opens the same ledger.

    `commit`, `acommit` and `post` take one item each and may make one transaction of many; an item's charges and its
    receipt are written together or not at all, and nothing is answered before that is durable. All raise
    `LedgerUnavailableError` when the commit could not be made in time or its outcome is not known.
    """

    keys: ReceiptKeys
    """What authenticates the receipts, and hides their owners."""

    anchors: Anchors | None
    """Where the mark of the log goes outside of it."""

    inline: bool
    """Whether a commit does no I/O, so that it may be made on an event loop."""

    def commit(self, item: Item) -> Held | Closed:
        """Commit and wait."""
        ...

    def acommit(self, item: Item) -> Coroutine[Any, Any, Held | Closed]:
        """Commit and wait without blocking the event loop."""
        ...

    def post(self, item: Item) -> None:
        """Commit without waiting."""
        ...

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Store a new record, or replace the one with the same id."""
        ...
