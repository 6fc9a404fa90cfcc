"""What several credentials of one request come to together."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable

VERIFIED: Final = "signature:verified"
INVALID: Final = "signature:invalid"
UNLISTED: Final = "signature:unlisted"
UNATTRIBUTED: Final = "signature:unattributed"
UNAVAILABLE: Final = "signature:unavailable"


def joined(found: Identified, signed: Identified) -> Identified:
    """Whom the credentials of an account and what an agent has proven come to together.

    The account stays the principal, at its own tier, and the agent acts for it: a signature or a certificate proves who
    sends the request, not that the key in it is its own.
    """
    if isinstance(found, (Invalid, Unavailable)):
        return found
    if isinstance(signed, Invalid):
        return signed
    if isinstance(signed, Unavailable):
        return flagged(found, (UNAVAILABLE,)) if isinstance(found, Ok) else signed
    if isinstance(signed, Absent):
        return flagged(found, signed.flags)
    if isinstance(found, Absent):
        return signed
    behalf = found.actor.on_behalf_of or found.actor.account
    actor = replace(found.actor, agent=found.actor.agent or signed.actor.agent, on_behalf_of=behalf)
    return Ok(actor, (*found.flags, *signed.flags), signed.signs)


def observed(found: Identified, signed: Identified) -> Identified:
    """What the credentials of an account come to, with a mark of what the signature would have."""
    if isinstance(signed, (Absent, Ok)):
        return flagged(found, signed.flags)
    return flagged(found, (INVALID if isinstance(signed, Invalid) else UNAVAILABLE,))


def flags_of(found: Identified) -> tuple[str, ...]:
    """The marks for the record."""
    return found.flags if isinstance(found, (Absent, Ok)) else ()


def flagged(found: Identified, flags: tuple[str, ...]) -> Identified:
    """The same, with more marks for the record."""
    if flags and isinstance(found, (Absent, Ok)):
        return replace(found, flags=(*found.flags, *flags))
    return found
