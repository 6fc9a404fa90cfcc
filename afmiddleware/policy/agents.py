"""Rules for agents alone: to whom they apply, so that nobody gains by hiding what it is.

Only a user whom the application has signed in is shown not to be an agent. So a rule that refuses agents falls on
everybody else, and a rule that allows them on nobody who could only say that it is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor
    from afmiddleware.policy.conditions import Test

ALL: Final = "all"
AGENTS: Final = "agents"
PROVEN_AGENTS: Final = "proven_agents"
SCOPES: Final = (ALL, AGENTS, PROVEN_AGENTS)


def for_agents(kind: str, scope: str, holds: Test | None) -> Test | None:
    """A rule's condition together with whom it applies to. `kind` is that of the rule, `scope` one of `SCOPES`."""
    if scope == ALL:
        return holds
    if kind == "allow":
        applies = _proven if scope == PROVEN_AGENTS else _no_user
    else:
        applies = _no_user if scope == PROVEN_AGENTS else _no_person
    return _both(applies, holds)


def _both(applies: Callable[[Actor], bool], holds: Test | None) -> Test:
    def test(event: ActionEvent, now: int) -> bool:
        return applies(event.actor) and (holds is None or holds(event, now))

    return test


def _proven(actor: Actor) -> bool:
    return bool(actor.agent)


def _no_user(actor: Actor) -> bool:
    return not actor.signed_in


def _no_person(actor: Actor) -> bool:
    return not actor.signed_in or actor.marked
