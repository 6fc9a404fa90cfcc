"""In which currencies a policy's amounts are, and which rules and limits are in none of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from afmiddleware.grammar.capability import matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from afmiddleware.model.limit import Limit
    from afmiddleware.policy.compiled import Policy
    from afmiddleware.policy.rules import Rule


class RouteSource(Protocol):
    """A route of the policy file; it may also have `amount` and `currency`."""

    @property
    def capability(self) -> str | None: ...


def under(limit: Limit) -> str:
    """The pattern of the capabilities that a limit counts."""
    return limit.capability or "**"


def other_currencies(
    policy: Policy,
    routes: Sequence[RouteSource],
    limits: Sequence[Limit],
    currency: str,
) -> Iterator[tuple[Rule | Limit, str]]:
    """Each rule or limit in a currency that no amount it covers can have, with those that they have.

    Where a route reads its currency from the request, any may come. Actions without a route are taken to be in
    `currency`, the usual one, or in that of some limit.
    """
    usual = {currency, *(limit.currency for limit in limits)} - {""}
    for rules in policy.rules.values():
        for rule in rules:
            wanted = _of_rule(rule)
            paid = _paid(rule.pattern, routes, currency, usual) if wanted else None
            if paid and paid.isdisjoint(wanted):
                yield rule, ", ".join(sorted(paid))
    for limit in limits:
        paid = _paid(under(limit), routes, currency, set()) if limit.currency else None
        if paid and limit.currency not in paid:
            yield limit, ", ".join(sorted(paid))


def _of_rule(rule: Rule) -> set[str]:
    """The currencies that a rule compares amounts with; what it asks of the currency beside that speaks for itself."""
    found = set(rule.currencies)
    if rule.max_amount is not None:
        found.add(rule.max_amount.currency)
    for fields in rule.when:
        if "currency" not in fields:
            found.update(
                str(wanted).rpartition(" ")[2]
                for operator, wanted in fields.get("amount", {}).items()
                if operator != "exists"
            )
    return found


def _paid(pattern: str, routes: Sequence[RouteSource], currency: str, usual: set[str]) -> set[str] | None:
    """The currencies of the amounts under a pattern, `None` where a request may name any."""
    found: set[str] = set()
    covered = False
    for route in routes:
        if getattr(route, "amount", None) is not None and matches(pattern, str(route.capability)):
            covered = True
            one = _of_route(route, currency)
            if one is None:
                return None
            found |= one
    return found if covered else usual


def _of_route(route: Any, currency: str) -> set[str] | None:
    amount = route.amount
    fixed = [amount] if isinstance(amount, str) else [amount.price, *(amount.prices or {}).values()]
    named = {text.rpartition(" ")[2] for text in fixed if text}
    if named:
        return named
    given = route.currency
    return {given or currency} if given is None or isinstance(given, str) else None
