"""What every enforcement point says alike, whatever it stands in: the refusals that no flow made."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.flow import refused
from afmiddleware.identity.address import anonymous
from afmiddleware.model.entry import Entry
from afmiddleware.model.receipt import ANONYMOUS, Draft
from afmiddleware.plan import Refused, guess_charge

if TYPE_CHECKING:
    from afmiddleware.errors import ConfigError, SealBrokenError
    from afmiddleware.fence import Fence
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.model.verdict import Verdict

_log = logging.getLogger("afmiddleware")


def unusable(fence: Fence, facts: HttpFacts, error: ConfigError) -> Refused:
    """Nothing runs, because the policy and the application do not fit each other."""
    _log.critical("the application cannot be fenced, so nothing runs: %s", error)
    said = "The policy does not fit the application."
    return unrecorded(fence, facts, "policy.unavailable", said, retry_after=60)


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


def cross_origin(facts: HttpFacts) -> bool:
    """Whether a page of another origin asks, so that the answer's own headers must be shown to it."""
    return facts.first(b"origin") is not None


def _nothing_of(final: Verdict) -> Draft:
    return Draft("refusal", ANONYMOUS, {"id": "", "code": final.code})
