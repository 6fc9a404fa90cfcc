"""Minting a session for a caller: `POST sessions` among the fence's own endpoints."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.identity.outcome import Ok
from afmiddleware.model.codes import LEDGER_UNAVAILABLE, POLICY_ALLOWED
from afmiddleware.model.entry import Entry, Order
from afmiddleware.model.limit import Charge
from afmiddleware.model.verdict import Verdict
from afmiddleware.pep.respond import instant
from afmiddleware.plan import DryRun, Refused
from afmiddleware.receipts.record import operation

if TYPE_CHECKING:
    from afmiddleware.fence import Fence

_MINTED: Final = ("session.refused", "session.mint")


def mint(fence: Fence, found: Ok, *, dry: bool = False) -> Refused | bytes:
    """A new session of who was found, as JSON: `session` is the handle to send back, `expires` its end.

    How many a caller may mint is limited; the limits hang on the caller, never on a credential. When `dry`, none is
    minted or counted, and what would have become of it is told. It commits, so it may block.
    """
    now, actor = fence.clock(), found.actor
    entry = Entry(
        id=fence.new_id(now),
        owner=actor.id,
        verdict=Verdict(authorized=True, code=POLICY_ALLOWED),
        record=lambda final: operation(actor.id, Order(what=_MINTED[final.authorized], key=f"actor:{actor.id}")),
        rates=tuple(Charge(limit, f"actor:{actor.id}", 1) for limit in fence.mint_limits),
        dry=dry,
        trial=True,
    )
    try:
        held = fence.commit(entry)
    except (LedgerUnavailableError, ReceiptError) as error:
        wait = error.retry_after if isinstance(error, LedgerUnavailableError) else 0
        verdict = Verdict(
            authorized=False,
            code=LEDGER_UNAVAILABLE,
            reason="The session cannot be counted now.",
            retry_after=wait,
        )
        return Refused(id=entry.id, verdict=verdict, actor=actor)
    if dry:
        trial = DryRun(observe=False)
        return Refused(id=entry.id, verdict=held.verdict, actor=actor, balances=held.balances, dry=trial)
    if not held.verdict.authorized:
        return Refused(id=entry.id, verdict=held.verdict, actor=actor, balances=held.balances)
    sessions = fence.plan.sessions
    if sessions is None:
        msg = "a fence without sessions serves no endpoint that mints them"
        raise LedgerUnavailableError(msg)
    handle = sessions.mint(actor, now, os.urandom)
    return json.dumps({"session": handle.text, "expires": instant(handle.ends)}).encode()
