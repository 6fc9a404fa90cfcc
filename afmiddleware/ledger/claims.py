"""Idempotency keys: claimed in the commit that charges, so that one key runs one handler, once.

A key belongs to its caller and its endpoint. While its request runs, and when its outcome is not known, it is refused;
once it has been answered the same request gets the same answer again, without a charge and without a handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.model.entry import Closed
from afmiddleware.model.outcome import Answer, End, Settlement
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from afmiddleware.ledger.books import Books
    from afmiddleware.limits.rows import Hold
    from afmiddleware.model.entry import Entry, Once

RUNS_FOR: Final = 300_000_000
"""How long a request is taken to be running of which nothing is heard, in microseconds; then its outcome is unknown."""


REFERENCE: Final = "reference"
"""The state of what a later refund calls an action by."""

USED: Final = "used"
"""The state of what may be used once and was."""


class Claimed(msgspec.Struct, array_like=True):
    """A key that was used.

    `state` is `running`, `unknown` or `done`, which has the answer when that was kept; `used`
    is what may be used once, and has no request of its own, and `reference` what a refund calls an action by. `hold` is
    the reservation that it belongs to.
    """

    fingerprint: str
    state: str
    since: int
    expires: int
    answer: Answer | None = None
    hold: str = ""


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Claimed).decode


def pack_claim(claimed: Claimed) -> bytes:
    """A claim as bytes (MessagePack)."""
    return _pack(claimed)


def unpack_claim(data: bytes) -> Claimed:
    """A claim from its bytes. Raises `msgspec.MsgspecError` when they are none."""
    return _unpack(data)


def meet(books: Books, entry: Entry) -> Verdict | Answer | None:
    """What a key that was used before means for this entry: a refusal, the answer again, or nothing (`None`)."""
    claim = entry.claim
    found = books.claims.get(claim.key) if claim is not None else None
    if claim is None or found is None or found.expires <= books.now:
        return None
    if found.fingerprint != claim.fingerprint:
        return _refused(entry, "idempotency.mismatch", "This Idempotency-Key was used for another request.")
    if found.state == "running" and books.now < found.since + RUNS_FOR:
        return _refused(entry, "idempotency.in_flight", "The first request with this key is still running.", wait=1)
    if found.state != "done":
        why = "The first request with this key ended without a known outcome. It is not run again."
        return _refused(entry, "idempotency.outcome_unknown", why)
    if found.answer is None:
        why = "The first request with this key was answered, but the answer was not kept. It is not run again."
        return _refused(entry, "idempotency.replay_unavailable", why)
    return found.answer


def claim(books: Books, entry: Entry, hold: Hold) -> None:
    """Claim the key of an admitted entry."""
    if entry.claim is None:
        return
    key, expires = entry.claim.key, books.now + entry.claim.keep
    hold.claim = (key, entry.claim.fingerprint, expires)
    put_claim(books, key, Claimed(entry.claim.fingerprint, "running", books.now, expires, None, entry.id))


def answered(  # noqa: PLR0913 (what is known of an end)
    books: Books,
    name: str,
    hold: Hold,
    settlement: Settlement,
    end: End,
    answer: Answer | None,
) -> None:
    """Say how the request of a claimed key ended. What never ran frees its key; another's key is left alone."""
    if hold.claim is None:
        return
    key, fingerprint, expires = hold.claim
    found = books.claims.get(key)
    if expires <= books.now or (found is not None and found.hold not in ("", name)):
        return
    if settlement is Settlement.RELEASE and answer is None:
        put_claim(books, key, None)
        return
    unknown = settlement is Settlement.UNKNOWN or end is not End.OK
    state = "unknown" if unknown else "done"
    put_claim(books, key, Claimed(fingerprint, state, hold.created, expires, None if unknown else answer, name))


def once(books: Books, item: Once) -> Closed:
    """Use something up. Booked for the first; whoever comes later, while it is kept, is told that it was used."""
    found = books.claims.get(item.key)
    if found is not None and found.expires > books.now:
        return Closed(booked=False, state=USED)
    put_claim(books, item.key, Claimed("", USED, books.now, books.now + item.keep))
    return Closed(booked=True, state=USED)


def unanswered(claimed: Claimed, name: str) -> bool:
    """Forget the answer that was kept for the action `name`; whether there was one. It is not run again."""
    if claimed.hold != name or claimed.answer is None:
        return False
    claimed.answer = None
    return True


def put_claim(books: Books, key: str, claimed: Claimed | None) -> None:
    """Let a name stand for something, or with `None` for nothing any more."""
    books.changed_claims[key] = claimed
    if claimed is None:
        books.claims.pop(key, None)
    else:
        books.claims[key] = claimed


def _refused(entry: Entry, code: str, reason: str, *, wait: int = 0) -> Verdict:
    return Verdict(
        authorized=False,
        code=code,
        reason=reason,
        capability=entry.verdict.capability,
        rule=entry.verdict.rule,
        retry_after=wait,
    )
