"""The part of the spine that finds out who asks: credentials, what they need looked up, and the application's word."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from afmiddleware.effects import Flow, Resolve
from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError, MappingError
from afmiddleware.identity.address import stranger
from afmiddleware.identity.agents import marked
from afmiddleware.identity.app_user import acquainted
from afmiddleware.identity.needs import NeedIntrospection, NeedKey
from afmiddleware.identity.outcome import Invalid, Unavailable
from afmiddleware.identity.together import flagged, flags_of, joined, observed
from afmiddleware.model.codes import (
    IDENTITY_INVALID,
    IDENTITY_NONCE,
    IDENTITY_PROOF,
    REQUEST_AMBIGUOUS,
    SESSION_INVALID,
)
from afmiddleware.model.verdict import Verdict
from afmiddleware.plan import guess_charge
from afmiddleware.plugins import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.plan import Asked, Plan

_log = logging.getLogger("afmiddleware.identity")
_LONGEST: Final = 300
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
    *,
    spends: bool = False,
) -> Flow[Identified]:
    """Who makes a request; `known` asks whom the application has signed in, where the policy takes its word.

    `spends` says that the endpoint costs something, so that a signature has to cover the request as a whole.
    """
    if plan.unclear(facts):
        return Invalid("a forwarding header twice beside a chunked body: one may be a trailer", REQUEST_AMBIGUOUS)
    found = yield from _looked_up(plan.identify(facts, now), plan, facts, now)
    if plan.certificates is not None:
        found = joined(found, plan.certificates.check(facts, now))
    if plan.signatures is not None and not isinstance(found, (Invalid, Unavailable)):
        observe = plan.observes_signatures
        checks = plan.signatures.check(facts, now, spends=spends, observe=observe)
        signed = yield from _looked_up(checks, plan, facts, now)
        if observe:
            note(signed, "a signature that is only observed", plan.client(facts))
        found = observed(found, signed) if observe else joined(found, signed)
    if plan.plugins:
        flags = flags_of(found)
        found = flagged((yield from asked(plan.plugins, facts, found)), flags)
    if known is not None and plan.from_app is not None:
        user = acquainted(plan.from_app, found, known)
        found = found if user is found else flagged(user, flags_of(found))
    return marked(found, facts, plan.marks)


def note(found: Identified, of: str, client: str) -> None:
    """Log why a credential is not good, for operators; the caller is never told, and the credential never logged.

    `of` names the decision or what else it was shown for, `client` is the address that it came from.
    """
    if isinstance(found, (Invalid, Unavailable)):
        # A service's own authenticator may have put into it what the caller wrote.
        why = found.detail[:_LONGEST]
        what = "is refused" if isinstance(found, Invalid) else "cannot be checked now"
        _log.info(
            "%s: the credential from %s %s: %s", of, client or "nowhere", what, why if why.isprintable() else repr(why)
        )


def _looked_up(flow: Generator[Need, Any, Identified], plan: Plan, facts: HttpFacts, now: int) -> Flow[Identified]:
    """Run authenticators, looking up what they ask for."""
    try:
        need = next(flow)
        while True:
            guessed = isinstance(need, NeedKey | NeedIntrospection) and not need.seen
            if guessed and plan.full.holds(guess_charge(plan, plan.client(facts)), now):
                return Invalid("too many API keys that nobody knows came from this address", guess=True)
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


def check_body(asked: Asked, body: bytes) -> None:
    """Take the caller for nobody when its signature is for another body. Raises `MappingError` then."""
    if asked.signs is None or asked.signs(body):
        return
    note(Invalid("the body is not the one that was signed"), asked.id, asked.peer)
    asked.actor = stranger(asked.peer)
    raise MappingError(IDENTITY_INVALID, "The body is not the one that was signed.")


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
