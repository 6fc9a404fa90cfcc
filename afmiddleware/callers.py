"""The part of the spine that finds out who asks: credentials, what they need looked up, and the application's word."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from msgspec.structs import replace

from afmiddleware.effects import Flow, Resolve
from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError
from afmiddleware.identity.app_user import acquainted
from afmiddleware.identity.outcome import Invalid, Unavailable
from afmiddleware.model.codes import IDENTITY_INVALID, IDENTITY_NONCE, IDENTITY_PROOF, SESSION_INVALID
from afmiddleware.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.plan import Plan

_SAID: Final = MappingProxyType(
    {
        IDENTITY_INVALID: "The credential is not valid.",
        IDENTITY_PROOF: "The proof that the caller holds the credential's key is not valid.",
        IDENTITY_NONCE: "The proof of possession has to hold the nonce that comes with this answer.",
        SESSION_INVALID: "The session handle is not one of this caller's.",
    },
)


def identify(
    plan: Plan,
    facts: HttpFacts,
    now: int,
    known: Callable[[], AppUser | None] | None = None,
) -> Flow[Identified]:
    """Who makes a request; `known` asks whom the application has signed in, where the policy takes its word."""
    found = yield from _authenticated(plan, facts, now)
    return found if known is None or plan.from_app is None else acquainted(plan.from_app, found, known)


def _authenticated(plan: Plan, facts: HttpFacts, now: int) -> Flow[Identified]:
    """Run the authenticators, looking up what they ask for."""
    flow = plan.identify(facts, now)
    try:
        need = next(flow)
        while True:
            try:
                answer = yield from Resolve(need)
            except IdentityUnavailableError as error:
                need = flow.throw(error)
            else:
                need = flow.send(answer)
    except StopIteration as stop:
        return cast("Identified", stop.value)
    except (IdentityUnavailableError, LedgerUnavailableError) as error:
        return Unavailable(detail=str(error), retry_after=error.retry_after)


def identity_verdict(found: Identified, binding: Binding) -> Verdict | None:
    """The refusal of a caller that is not who it says, or of whom that cannot be told; `None` for all others."""
    if isinstance(found, Unavailable):
        why = "Whether the credential is good cannot be told now."
        return _refused("identity.unavailable", why, capability=binding.capability, retry_after=found.retry_after)
    if isinstance(found, Invalid):
        why = "The request carries credentials that disagree, or one of them twice."
        if found.code in _SAID:
            why = _SAID[found.code]
        return replace(_refused(found.code, why, capability=binding.capability), nonce=found.nonce)
    return None


def _refused(code: str, reason: str, *, capability: str, retry_after: int = 0) -> Verdict:
    return Verdict(authorized=False, code=code, reason=reason, capability=capability, retry_after=retry_after)
