"""What every enforcement point says alike, whatever it stands in: the refusals that no flow made."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.flow import refused
from afmiddleware.identity.address import address_key, anonymous
from afmiddleware.limits.keys import row_key
from afmiddleware.model.codes import POLICY_ALLOWED, POLICY_UNAVAILABLE, RATE_EXCEEDED
from afmiddleware.model.entry import Entry
from afmiddleware.model.limit import Charge, Limit, Unit, Window
from afmiddleware.model.receipt import ANONYMOUS, Draft
from afmiddleware.model.verdict import Verdict
from afmiddleware.pep.respond import RawHeaders, refusal
from afmiddleware.plan import Refused, guess_charge

if TYPE_CHECKING:
    from afmiddleware.errors import ConfigError, SealBrokenError
    from afmiddleware.fence import Fence
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts

STRANGERS_A_MINUTE: Final = 60
KNOWN_A_MINUTE: Final = 600
"""How often a minute the fence's own endpoints answer one address that nobody knows, and one caller that is known."""

_SOON: Final = 5
_MINUTE: Final = Window("rolling", 60)
_OF_STRANGERS: Final = Limit(
    name="lookups", unit=Unit.RATE, cap=STRANGERS_A_MINUTE, window=_MINUTE, per="address", cell="~lookups/r60"
)
_OF_KNOWN: Final = Limit(name="lookups", unit=Unit.RATE, cap=KNOWN_A_MINUTE, window=_MINUTE, cell="~lookups/r60")
_log = logging.getLogger("afmiddleware")


def unusable(fence: Fence, facts: HttpFacts, error: ConfigError) -> Refused:
    """Nothing runs, because the policy and the application do not fit each other."""
    _log.critical("the application cannot be fenced, so nothing runs: %s", error)
    fence.readiness.unfit = True
    said = "The policy does not fit the application."
    return unrecorded(fence, facts, POLICY_UNAVAILABLE, said, retry_after=60)


def outdated(fence: Fence, facts: HttpFacts) -> Refused:
    """Nothing runs, because another policy is in force than the one that this process can read. It was logged."""
    said = "The policy of this process is superseded."
    return unrecorded(fence, facts, POLICY_UNAVAILABLE, said, retry_after=_SOON)


def unsealed(fence: Fence, facts: HttpFacts, error: SealBrokenError) -> Refused:
    """Something other than what was judged was about to run."""
    _log.error("request.unsealed: %s", error)
    said = "The application would have run something other than what was judged."
    return unrecorded(fence, facts, "request.unsealed", said)


def unrecorded(fence: Fence, facts: HttpFacts, code: str, said: str, *, retry_after: int = 0) -> Refused:
    """A refusal of a request that was not judged: it has no receipt of its own, and is counted."""
    verdict = refused(code, said, retry_after=retry_after)
    decision = fence.new_id(fence.clock())
    entry = Entry(id=decision, owner=ANONYMOUS, verdict=verdict, record=_nothing_of, quiet=True)
    # Without a ledger it is refused all the same.
    with suppress(LedgerUnavailableError):
        fence.post(entry)
    return Refused(id=decision, verdict=verdict, actor=anonymous(facts))


def refused_by(fence: Fence, facts: HttpFacts, passage: Refused) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of a refusal, with what would help its caller."""
    asks = fence.challenges.of(passage.verdict, facts)
    return refusal(passage, fence.clock(), fence.vary, cross_origin=cross_origin(facts), asks=asks)


def guessed(fence: Fence, facts: HttpFacts, code: str, said: str) -> Refused:
    """`unrecorded` for a credential that may have been made up: it is counted where it came from, and may block."""
    now, plan = fence.clock(), fence.plan
    verdict, rates = refused(code, said), guess_charge(plan, plan.client(facts))
    entry = Entry(
        id=fence.new_id(now), owner=ANONYMOUS, verdict=verdict, record=_nothing_of, rates=rates, quiet=True, trial=True
    )
    # Without a ledger it is refused all the same.
    with suppress(LedgerUnavailableError):
        verdict = fence.commit(entry).verdict
        plan.full.note(rates, verdict, now)
    return Refused(id=entry.id, verdict=verdict, actor=anonymous(facts))


def too_often(fence: Fence, facts: HttpFacts, actor: Actor | None) -> Refused | None:
    """The refusal of whoever asks the fence itself more often than it answers, `None` for all others.

    `actor` is who is known to ask; strangers are counted by their address. It leaves no record of what may be asked. It
    commits, so it may block. When the ledger cannot count, it raises `LedgerUnavailableError` for a stranger.
    """
    now, plan = fence.clock(), fence.plan
    peer = plan.client(facts)
    who, limit = (anonymous(facts), _OF_STRANGERS) if actor is None else (actor, _OF_KNOWN)
    key = row_key(limit.per, who, "", None, lambda: address_key(peer) if peer else "")
    rates = (Charge(limit, key, 1),)
    if plan.full.holds(rates, now):
        return unrecorded(fence, facts, RATE_EXCEEDED, "This was asked too often.", retry_after=_SOON)
    allowed = Verdict(authorized=True, code=POLICY_ALLOWED)
    entry = Entry(
        id=fence.new_id(now), owner=ANONYMOUS, verdict=allowed, record=_nothing_of, rates=rates, quiet=True, trial=True
    )
    try:
        held = fence.commit(entry)
    except LedgerUnavailableError:
        if actor is None:
            raise
        # Its own receipts can be read when nothing can be written.
        return None
    plan.full.note(rates, held.verdict, now)
    if held.verdict.authorized:
        return None
    return Refused(id=entry.id, verdict=held.verdict, actor=who, balances=held.balances)


def cross_origin(facts: HttpFacts) -> bool:
    """Whether a page of another origin asks, so that the answer's own headers must be shown to it."""
    return facts.first(b"origin") is not None


def _nothing_of(final: Verdict) -> Draft:
    return Draft("refusal", ANONYMOUS, {"id": "", "code": final.code})
