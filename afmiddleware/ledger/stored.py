"""What every SQL ledger stores of a receipt, read back, and what a writer knows beyond its tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.steady import Steady
from afmiddleware.limits.rows import Hold, unpack_hold
from afmiddleware.model.api_key import ApiKeyRecord
from afmiddleware.model.receipt import Receipt
from afmiddleware.receipts.chain import NO_LEAF, Head, leaf_hash
from afmiddleware.receipts.verify import StoredReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from afmiddleware.model.revocation import Revocation
    from afmiddleware.receipts.checkpoint import Signer

COLUMNS: Final = "seq, body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed"
_pack = msgspec.msgpack.Encoder().encode
unpack_api_key = msgspec.msgpack.Decoder(ApiKeyRecord).decode
"""The record of an API key as `api_key_row` stores it."""
_disclosed = msgspec.msgpack.Decoder(dict[str, tuple[bytes, str | None]]).decode


class Seen(msgspec.Struct):
    """What outlives a writer that had to be opened anew: the end of the log as acknowledged, and what is uncounted.

    `holder` is the name of this process, and `lease` until when the slots it holds are its own, 0 before it had any;
    `steady` is what a server's clock is held against.
    """

    head: Head | None = None
    turned_away: dict[tuple[int, str, str], int] = msgspec.field(default_factory=dict)
    turned_away_since: int = 0
    holder: int = 0
    lease: int = 0
    pid: int = 0
    steady: Steady | None = None

    def hold(self, draw: Callable[[int], bytes]) -> None:
        """Give this process a name of its own to hold slots under. A forked child is another process."""
        if self.pid != os.getpid():
            if self.pid:
                # Its parent records what was counted there.
                self.turned_away = {}
            self.pid, self.lease = os.getpid(), 0
            self.holder = int.from_bytes(draw(8)) >> 2


def public_of(signer: Signer | None) -> bytes:
    """The public key of who signs a log, empty where nobody does."""
    return signer.public if signer is not None else b""


def signer_of(public: bytes, held: Signer | None, read: Callable[[bytes], Signer | None], place: str) -> Signer | None:
    """Who signs the log whose head names the key `public`: who did so far, or, after a rotation elsewhere, another.

    Raises `LedgerUnavailableError` when the key at hand is not that one.
    """
    if public_of(held) == public:
        return held
    found = read(public)
    if found is None or found.public != public:
        msg = f"the signing key at hand is not the one of the log in {place}"
        raise LedgerUnavailableError(msg)
    return found


def check_known(row: tuple[bytes] | None, known: Head, place: str) -> None:
    """Look for the last receipt that this process has acknowledged, by its leaf in `row`, in a log that is opened anew.

    Raises `LedgerUnavailableError` when another stands there: the log was replaced by an old copy, and continued.
    """
    if row is not None and row[0] != known.leaf:
        msg = f"receipt {known.size} of the log in {place} is not the one that was acknowledged: it was replaced"
        raise LedgerUnavailableError(msg)


TAIL: Final = "SELECT head.leaf, receipt.leaf, receipt.body FROM head LEFT JOIN receipt ON receipt.seq = head.size"
"""What `check_tail` looks at."""


def check_tail(row: tuple[bytes, bytes | None, bytes | None] | None, place: str) -> None:
    """Look at the end of a log before anything is appended to it: after a fault of the disk it may not be what it was.

    Raises `LedgerUnavailableError` when the last receipt is not the one that the head names.
    """
    head, leaf, body = row or (b"", None, None)
    known = leaf is not None and body is not None and leaf == head == leaf_hash(body)
    if not known and head != NO_LEAF:
        msg = f"the end of the log in {place} is not what its head says: see afmiddleware receipts verify"
        raise LedgerUnavailableError(msg)


def stored(row: tuple[int, bytes, bytes, bytes, str, str, str, str, str, int, bytes | None]) -> StoredReceipt:
    """A receipt from the row of `COLUMNS`. Raises `ReceiptError` when the row cannot hold one."""
    seq, body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed = row
    # The types are the tables' own, but anybody may have changed the tables.
    if not all(type(one) is bytes for one in row[1:4]):
        msg = f"receipt {seq} cannot be read: its body, leaf or HMAC is not made of bytes"
        raise ReceiptError(msg)
    return StoredReceipt(
        receipt=Receipt(seq=seq, body=body, leaf=leaf, mac=mac, disclosed=_values(disclosed)),
        columns={
            "kind": kind,
            "decision": decision,
            "capability": capability,
            "verdict": verdict,
            "code": code,
            "ts": ts,
        },
    )


def holds_of(owner: str, found: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Hold]]:
    """Reservations as they were stored, those of an `owner` where one is named: others may name it too."""
    every = ((name, unpack_hold(data)) for name, data in found)
    return (one for one in every if owner in ("", one[1].owner))


def api_key_row(record: ApiKeyRecord) -> tuple[str, str, int, bytes]:
    """The row of an API key's record: id, account, when it was made, and all of it."""
    return record.id, record.account, record.created, _pack(record)


def revocation_row(revocation: Revocation) -> tuple[str, int, bytes]:
    """The row of a token that was taken back: its key, until when it is kept, and all of it."""
    return revocation.key, revocation.until, _pack(revocation)


def without(packed: bytes | None, names: Collection[str]) -> bytes | None:
    """The values behind a receipt's commitments without those of `names`, `None` when none is left."""
    left = {name: one for name, one in _values(packed).items() if name not in names}
    return _pack(left) if left else None


def _values(packed: bytes | None) -> dict[str, tuple[bytes, str | None]]:
    """The values behind a receipt's commitments. What cannot be read fits no commitment, so that `verify` names it."""
    if packed is None:
        return {}
    try:
        return _disclosed(packed)
    except ValueError:
        return {"": (b"", None)}
