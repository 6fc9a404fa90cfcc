"""`afmiddleware explain` and `afmiddleware simulate`: what would happen to one action, and why. Nothing is charged."""

from __future__ import annotations

import sys
from contextlib import closing
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from afmiddleware.cli.common import echo_json, json_option, policy_option
from afmiddleware.cli.events import event_options, looking_fence, read_options
from afmiddleware.config.calls import with_calls
from afmiddleware.policy.patterns import meets, of_calls

if TYPE_CHECKING:
    from afmiddleware.config.schema import Config
    from afmiddleware.policy.explain import Condition, Explanation, Stand, Told

_LIVE = click.option("--live", is_flag=True, help="Count from the policy's own ledger instead of from zero.")


@click.command("explain")
@event_options
@policy_option
@_LIVE
@json_option
def explain_command(policy: str, *, live: bool, as_json: bool, **options: Any) -> None:
    """Say what would happen to an action, and everything that leads to it. Exit 0 when it is allowed, 1 when not."""
    found = _explained(policy, options, live=live)
    if as_json:
        echo_json(found)
    else:
        for line in lines_of(found, policy):
            click.echo(line)
    sys.exit(0 if found.verdict.authorized else 1)


@click.command("simulate")
@event_options
@policy_option
@_LIVE
@json_option
def simulate_command(policy: str, *, live: bool, as_json: bool, **options: Any) -> None:
    """Say what would happen to an action, in a line. Exit 0 when it is allowed, 1 when not."""
    found = _explained(policy, options, live=live)
    if as_json:
        echo_json({"verdict": found.verdict, "limits": found.limits})
    else:
        click.echo(headline(found))
        for limit in found.limits:
            click.echo(f"  {limit.name}: {limit.used} of {limit.cap} used, {limit.asked} asked{_reset(limit)}")
    sys.exit(0 if found.verdict.authorized else 1)


def _explained(policy: str, options: dict[str, Any], *, live: bool) -> Explanation:
    with closing(looking_fence(policy, live=live)) as fence:
        event, now = read_options(fence, options)
        note = unnamed(fence.config, event.capability, policy)
        if note:
            click.echo(note, err=True)
        return fence.explain(event, now)


def unnamed(config: Config, capability: str, source: str) -> str:
    """That a policy has routes and none of this capability, nor a rule for it alone, and what is near; or nothing.

    So a capability that was mistyped does not pass for one that is denied, nor a pattern for one that was stopped.
    """
    routes = [route.capability for route in with_calls(config.routes) if route.capability]
    rules = {rule.capability for rule in (*config.rules.deny, *config.rules.require_approval, *config.rules.allow)}
    if not routes or capability in rules or any(meets(of_calls(one), capability) for one in routes):
        return ""
    nearest = get_close_matches(capability, routes, n=1, cutoff=0)[0]
    return f"note: no route of {source} is {capability}; the nearest is {nearest}"


def headline(found: Explanation) -> str:
    """The verdict in a line."""
    verdict = found.verdict
    flags = f" [{', '.join(verdict.flags)}]" if verdict.flags else ""
    return f"{'ALLOWED' if verdict.authorized else 'REFUSED'} {verdict.code}: {verdict.reason}{flags}"


def lines_of(found: Explanation, source: str) -> list[str]:
    """An explanation as a person reads it: the verdict, then every rule and limit that had a say."""
    lines = [headline(found)]
    if not found.rules:
        lines.append("  no rule names this capability, so it is denied")
    for rule in found.rules:
        lines.append(f"  {rule.kind} {rule.id} ({source}:{rule.line}, {rule.capability}): {rule.outcome}")
        lines += _rule_lines(rule)
    for limit in found.limits:
        state = "fits" if limit.fits else "DOES NOT FIT"
        lines.append(
            f"  limit {limit.name} ({source}:{limit.line}): {limit.used} of {limit.cap} used, "
            f"{limit.asked} asked: {state}{_reset(limit)}"
        )
    return lines


def _reset(limit: Stand) -> str:
    return f", some is free again at {limit.resets_at}" if limit.resets_at else ""


def _rule_lines(rule: Told) -> list[str]:
    lines: list[str] = []
    for place, conditions in enumerate(rule.when):
        if place:
            lines.append("      or")
        lines += [f"      {_condition(one)}" for one in conditions]
    lines += [
        f"      {'yes' if one.met else 'NO '} demands {one.name} {one.wanted}, the action has {one.seen}"
        for one in rule.demands
    ]
    return lines


def _condition(one: Condition) -> str:
    mark = "?  " if one.holds is None else "yes" if one.holds else "no "
    why = f" ({one.why})" if one.why else ""
    return f"{mark} {one.field} {one.operator} {one.wanted}, seen {one.seen}{why}"
