"""A service's own authenticators: functions that find out who makes a request by a credential only it knows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.effects import Call, Flow
from afmiddleware.errors import CredentialError, IdentityUnavailableError, MappingError
from afmiddleware.identity.jose import is_name
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import REQUEST_AMBIGUOUS
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model.http import HttpFacts

_RESERVED: Final = ("address:", "local:")
_PROOFS: Final = ("bearer", "possession", "session")
_log = logging.getLogger("afmiddleware.identity")


def asked(
    plugins: Sequence[Callable[[RequestView], Any]],
    facts: HttpFacts,
    found: Identified,
) -> Flow[Identified]:
    """Who makes a request, when the credentials that the policy knows say nothing and a function knows more.

    A function answers with an `Actor`, or with `None` when there is no credential of its kind. It raises
    `CredentialError` for one that is not good, and `IdentityUnavailableError` when it cannot tell. Whatever else it
    answers or raises is a fault, and nobody is let in by it.
    """
    if not (isinstance(found, Absent) or (isinstance(found, Invalid) and found.foreign)):
        return found
    view = RequestView(facts, {})
    for function in plugins:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        try:
            answer = yield from Call(function, view)
        except CredentialError as error:
            return Invalid(f"{name}: {error}")
        except IdentityUnavailableError as error:
            return Unavailable(f"{name}: {error}", error.retry_after)
        except MappingError as error:
            if error.code == REQUEST_AMBIGUOUS:
                return Invalid(f"{name}: {error.detail}", REQUEST_AMBIGUOUS)
            return Unavailable(f"{name} failed")
        if answer is None:
            continue
        if isinstance(answer, Actor) and _stands(answer):
            return Ok(answer)
        _log.error("the authenticator %s answered what is no actor, so the request was refused", name)
        return Unavailable(f"{name} answered what is no actor")
    return found


def _stands(actor: Actor) -> bool:
    """Whether an actor can stand in limits and receipts: `<kind>:<name>`, printable, and more than a stranger."""
    kind, colon, name = actor.id.partition(":")
    named = is_name(actor.id) and kind.isalnum() and colon and name and not actor.id.startswith(_RESERVED)
    return bool(named) and actor.tier is not Tier.ANONYMOUS and actor.proof in _PROOFS
