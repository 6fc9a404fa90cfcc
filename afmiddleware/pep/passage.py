"""What every enforcement point says alike, whatever it stands in: the refusals that no flow made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from afmiddleware.flow import refused
from afmiddleware.identity.address import anonymous
from afmiddleware.plan import Refused

if TYPE_CHECKING:
    from afmiddleware.errors import ConfigError, SealBrokenError
    from afmiddleware.fence import Fence
    from afmiddleware.model.http import HttpFacts

_log = logging.getLogger("afmiddleware")


def unusable(fence: Fence, facts: HttpFacts, error: ConfigError) -> Refused:
    """Nothing runs, because the policy and the application do not fit each other."""
    _log.critical("the application cannot be fenced, so nothing runs: %s", error)
    verdict = refused("policy.unavailable", "The policy does not fit the application.", retry_after=60)
    return Refused(id=fence.new_id(fence.clock()), verdict=verdict, actor=anonymous(facts))


def unsealed(fence: Fence, facts: HttpFacts, error: SealBrokenError) -> Refused:
    """Something other than what was judged was about to run."""
    _log.error("request.unsealed: %s", error)
    verdict = refused("request.unsealed", "The application would have run something other than what was judged.")
    return Refused(id=fence.new_id(fence.clock()), verdict=verdict, actor=anonymous(facts))


def cross_origin(facts: HttpFacts) -> bool:
    """Whether a page of another origin asks, so that the answer's own headers must be shown to it."""
    return facts.first(b"origin") is not None
