"""The user that the application has signed in by itself, as an actor: `identity: {from_app: ...}`.

It is asked for only where the caller shows no credential that the policy itself accepts. What the application trusts is
the application's to protect: a session cookie is no proof against whoever drives its owner's browser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SESSION: Final = "session"
"""The proof of such an actor: the application says so."""

MAX_ID: Final = 256
_ATTRIBUTES: Final = ("get_id", "pk", "id", "identity", "username", "display_name")


class FromApp(msgspec.Struct, frozen=True, kw_only=True):
    """How the application's user becomes an actor. `id` is the user's attribute that names it, empty for the usual."""

    tier: Tier = Tier.TOKEN
    id: str = ""


class AppUser(msgspec.Struct, frozen=True):
    """A signed-in user, and what the application allows it."""

    user: Any
    scopes: frozenset[str] = frozenset()


def signed_in(user: Any, scopes: Iterable[str] = ()) -> AppUser | None:
    """The application's user object when it is a signed-in one (`is_authenticated`), else `None`."""
    told = getattr(user, "is_authenticated", False)
    # Some frameworks' older releases had a method there; a method is true by itself.
    return AppUser(user, frozenset(scopes)) if (told() if callable(told) else told) is True else None


def acquainted(settings: FromApp, found: Identified, known: Callable[[], AppUser | None]) -> Identified:
    """Who makes a request, when the credentials that the policy knows say nothing and the application may know more.

    A credential that the policy accepts, or that is bad, stands above the application's word; one of a kind that the
    policy does not know is the application's own, and still refused when the application knows nobody by it.
    """
    if not (isinstance(found, Absent) or (isinstance(found, Invalid) and found.foreign)):
        return found
    user = known()
    if user is None:
        return found
    name = _name_of(user.user, settings.id)
    if not name:
        return Unavailable("the application's user has no id that can stand in receipts; name its attribute as id")
    return Ok(Actor(id=f"app:{name}", tier=settings.tier, proof=SESSION, scopes=user.scopes, account=name))


def _name_of(user: Any, attribute: str) -> str:
    for name in (attribute,) if attribute else _ATTRIBUTES:
        try:
            value = getattr(user, name, None)
            value = value() if callable(value) else value
        except NotImplementedError:
            continue
        if type(value) is int or isinstance(value, UUID):
            return str(value)
        if isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable():
            return str(value)
    return ""
