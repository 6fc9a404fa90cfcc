"""Which rules that refuse name a capability that nothing here has, most likely mistyped. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Protocol

from afmiddleware.grammar.capability import matches
from afmiddleware.policy.patterns import meets, of_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from afmiddleware.policy.compiled import Policy
    from afmiddleware.policy.rules import Rule


MAPPED: Final = ("amount", "resource", "recipient", "category", "network", "risk")
"""What an action has where its route maps it."""


class RouteSource(Protocol):
    """A route of the policy file."""

    @property
    def capability(self) -> str | None: ...


def names_nothing(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[tuple[Rule, str]]:
    """Each rule that refuses what there is not, and what to do: a capability, or an actor.

    Of capabilities only one that is named whole counts: a pattern with a star may be there for what is still to come.
    What a route makes of the request's method or tool is left alone, and what an allow rule names for code that has
    no route.
    """
    known = [of_calls(one.capability) for one in routes if one.capability]
    allowed = {rule.pattern for rule in policy.rules["allow"]}
    whole = sorted({one for one in (*known, *allowed) if "*" not in one})
    for rule in (*policy.rules["deny"], *policy.rules["require_approval"]):
        for name in _bare(rule):
            yield rule, f"{name} is no actor; write key:{name} for whoever has its API keys"
        if not known or "*" in rule.pattern or rule.pattern in allowed:
            continue
        if not any(meets(one, rule.pattern) for one in known):
            near = get_close_matches(rule.pattern, whole, n=1)
            hint = f"did you mean {near[0]}?" if near else "correct it, or remove the rule"
            yield rule, f"no route has the capability {rule.pattern}; {hint}"


def reads_nothing(policy: Policy, routes: Sequence[RouteSource]) -> Iterator[tuple[Rule, str]]:
    """Each rule that allows under conditions on what none of its routes maps, so that it never does, and what to do."""
    for rule in policy.rules["allow"]:
        covered = [one for one in routes if matches(rule.pattern, str(one.capability))]
        if not covered or not rule.when:
            continue
        lacking = [next((field for field in MAPPED if _lacks(fields, field, covered)), "") for fields in rule.when]
        if all(lacking):
            yield rule, f"it reads {lacking[0]}, which no route of {rule.pattern} maps; map it there"


def _lacks(fields: Mapping[str, Any], field: str, routes: Sequence[RouteSource]) -> bool:
    asked = field in fields and "exists" not in fields[field]
    return asked and all(getattr(one, field, None) is None for one in routes)


def _bare(rule: Rule) -> Iterator[str]:
    """The actors that a rule names without saying of which kind they are, so that it means nobody."""
    for fields in rule.when:
        told = fields.get("actor.id", {})
        wanted = told.get("eq", told.get("in", ()))
        listed = (wanted,) if isinstance(wanted, str) else wanted
        yield from (one for one in listed if not one.startswith("$") and ":" not in one and "*" not in one)
