"""What the operator does at run time: `budget`, `limits`, `freeze`, `unfreeze`, `breaker`, `reconcile`."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from afmiddleware.anchoring import open_for_changes
from afmiddleware.cli.common import Group, echo_json, json_option, known_as, none_found, policy_at, policy_option, who
from afmiddleware.config.limits import limits_of
from afmiddleware.errors import AFError, GrammarError
from afmiddleware.fence import system_clock
from afmiddleware.grammar.amounts import to_major
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.identity.address import block_key
from afmiddleware.ledger.open import open_for_reading, open_rates, with_shared
from afmiddleware.limits.budget import keys, standings
from afmiddleware.limits.charge import amount_text, cap_text, window_text
from afmiddleware.limits.stops import CONTROL, named
from afmiddleware.model.entry import Closed, Order, Settle
from afmiddleware.model.limit import Unit
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afmiddleware.config.schema import Config
    from afmiddleware.model.limit import Limit

_OPEN = ("held", "unknown", "expired")


def _capped_as(context: click.Context, parameter: click.Parameter, actor: str) -> str:
    actor = known_as(context, parameter, actor)
    if actor.startswith("address:"):
        said = "a cap is set for a caller that is known; a limit per: address counts strangers, and freeze stops one"
        raise click.BadParameter(said)
    return actor


def _known_as(context: click.Context, parameter: click.Parameter, actor: str) -> str:
    return _block(known_as(context, parameter, actor))


def _block(actor: str) -> str:
    """An actor, an address as the block that stands for it. Raises `BadParameter`."""
    if not actor.startswith("address:"):
        return actor
    try:
        return f"address:{block_key(actor.removeprefix('address:'))}"
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("budget")
@click.argument("actor", callback=_known_as)
@policy_option
@json_option
def budget_command(actor: str, policy: str, *, as_json: bool) -> None:
    """How ACTOR stands, such as key:acct_42: whether it is frozen, and of its limits what is used, held and left.

    `stopped` are the capabilities that are frozen for everybody.
    """
    config, base = policy_at(policy)
    limits = limits_of(config)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        rows = with_shared(config, ledger.rows(keys(limits, actor)), keys(limits, actor))
        stops = ledger.rows([CONTROL, *(f"actor:{name}" for name in named(actor))])
        open_holds = [hold for state in ("held", "unknown") for _, hold in ledger.holds(state)]
        found = standings(limits, actor, rows, open_holds, system_clock())
    told = [
        {
            "limit": one.limit.name,
            "per": one.limit.per,
            "cap": cap_text(one.limit),
            "used": amount_text(one.limit, one.used),
            "held": amount_text(one.limit, one.held),
            "remaining": "" if one.limit.claim else amount_text(one.limit, one.remaining),
            "resets_at": _time(one.resets_at),
            "breaker": ("open" if one.tripped else "closed") if one.limit.on_exceed == "trip" else "",
        }
        for one in found
    ]
    reasons = {key: row.more.frozen for key, row in stops.items() if row.more is not None and row.more.frozen}
    stopped = reasons.pop(CONTROL, {})
    if as_json:
        echo_json({"actor": actor, "frozen": bool(reasons), "stopped": sorted(stopped), "limits": told})
        return
    for key, why in reasons.items():
        click.echo(f"{key.removeprefix('actor:')} is frozen{_because(why[''])}")
    for pattern, reason in sorted(stopped.items()):
        click.echo(f"{pattern} is frozen for everybody{_because(reason)}")
    none_found(told, f"no limit of {policy} counts by the actor")
    for one in told:
        reset = f"  resets {one['resets_at']}" if one["resets_at"] else ""
        state = f"  breaker {one['breaker']}" if one["breaker"] else ""
        click.echo(f"{one['limit']:20} {one['used']:>14} of {one['cap']:>14}  held {one['held']:>12}{reset}{state}")


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


@click.group("limits", cls=Group)
def limits_group() -> None:
    """The limits of the policy, and caps of single actors beside it."""


@limits_group.command("list")
@policy_option
@json_option
def limits_list(policy: str, *, as_json: bool) -> None:
    """List the limits of the policy."""
    config, _ = policy_at(policy)
    told = [
        {"limit": one.name, "per": one.per, "cap": cap_text(one), "window": window_text(one.window)}
        for one in limits_of(config)
    ]
    if as_json:
        echo_json(told)
        return
    none_found(told, f"{policy} has no limits")
    for one in told:
        click.echo(f"{one['limit']:20} {one['cap']:>14}  {one['window']:14}  per {one['per']}")


@limits_group.command("get")
@click.argument("actor", callback=_capped_as)
@policy_option
@json_option
def limits_get(actor: str, policy: str, *, as_json: bool) -> None:
    """Show the caps that were set for ACTOR. Exit 1 when there are none."""
    config, base = policy_at(policy)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        row = ledger.rows([f"actor:{actor}"]).get(f"actor:{actor}")
    more = row.more if row is not None else None
    limits = {one.name: one for one in limits_of(config)}
    told = {
        name: {"cap": amount_text(limits[name], cap) if name in limits else str(cap), "override": override}
        for name, (cap, override) in (more.caps if more is not None else {}).items()
    }
    if as_json:
        echo_json(told)
    else:
        none_found(told, f"no cap is set for {actor}; those of {policy} hold")
        for name, one in told.items():
            click.echo(f"{name:20} {one['cap']:>14}{'  (override)' if one['override'] else ''}")
    sys.exit(0 if told else 1)


@limits_group.command("set")
@click.argument("actor", callback=_capped_as)
@click.argument("name")
@click.argument("cap")
@click.option("--override", is_flag=True, help="Let it be wider than the policy's; else it only narrows.")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def limits_set(  # noqa: PLR0913 (options)
    actor: str, name: str, cap: str, reason: str, policy: str, *, override: bool, as_json: bool
) -> None:
    """Set the cap of the limit NAME for ACTOR: money such as '500 USD', or a number. `none` removes it."""
    config, _ = policy_at(policy)
    limit = _named(name, limits_of(config), "limit")
    what = "uncap" if cap == "none" else "cap"
    value = 0 if cap == "none" else _cap(limit, cap, config)
    order = Order(what=what, key=f"actor:{actor}", name=name, value=value, override=override, by=who(), reason=reason)
    said = f"{name} of {actor}: {cap}"
    if what == "cap" and not override and not limit.claim and value > limit.cap:
        said += f"; the policy's {cap_text(limit)} is narrower and holds: let it be wider with --override"
    _do(policy, order, as_json=as_json, said=said)


@limits_group.command("reopen")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def limits_reopen(reason: str, policy: str, *, as_json: bool) -> None:
    """Open the limits that are closed because counters shared in Redis were lost, before their windows are over.

    Some may then be exceeded by what they had counted.
    """
    config, _ = policy_at(policy)
    rates = open_rates(config)
    if rates is None:
        raise click.UsageError("the policy has no rates: redis://..., so no counters are shared")
    with closing(rates):
        rates.check()
        order = Order(what="reopen", key=f"rates:{rates.url.prefix}", by=who(), reason=reason)
        _do(policy, order, as_json=as_json, said="what was closed is open", then=rates.accept)


@click.command("freeze")
@click.argument("target")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def freeze_command(target: str, reason: str, policy: str, *, as_json: bool) -> None:
    """Refuse everything of an actor (key:..., jwt:..., local:...), of a capability pattern, or of `all`."""
    _do(policy, _stop("freeze", target, reason), as_json=as_json, said=f"{target} is frozen")


@click.command("unfreeze")
@click.argument("target")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def unfreeze_command(target: str, reason: str, policy: str, *, as_json: bool) -> None:
    """Let what was frozen act again. Exit 1 when it was not frozen."""
    _do(policy, _stop("unfreeze", target, reason), as_json=as_json, said=f"{target} may act again")


@click.group("breaker", cls=Group)
def breaker_group() -> None:
    """Circuit breakers: limits with `on_exceed: trip`."""


@breaker_group.command("status")
@click.option("--actor", default="", help="Look at the breakers of this actor too.")
@policy_option
@json_option
def breaker_status(actor: str, policy: str, *, as_json: bool) -> None:
    """Show which breakers are open, since when, and what closes each. Exit 1 when one is."""
    config, base = policy_at(policy)
    limits = [one for one in limits_of(config) if one.on_exceed == "trip" and (actor or one.per == "global")]
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        found = standings(limits, actor, ledger.rows(keys(limits, actor)), (), system_clock())
    told = [
        {
            "breaker": one.limit.name,
            "state": "open" if one.tripped else "closed",
            "since": _time(one.tripped_at),
            "reset": _reset_with(one.limit, actor, policy) if one.tripped else "",
        }
        for one in found
    ]
    if as_json:
        echo_json(told)
    else:
        none_found(told, f"{policy} has no breaker" + ("" if actor else " for everybody; name a caller with --actor"))
        for one in told:
            more = f" since {one['since']}; close it with: {one['reset']}" if one["since"] else ""
            click.echo(f"{one['breaker']:20} {one['state']}{more}")
    sys.exit(1 if any(one.tripped for one in found) else 0)


def _reset_with(limit: Limit, actor: str, policy: str) -> str:
    """The command that closes a breaker, as a shell reads it."""
    whose = [] if limit.per == "global" else ["--actor", actor]
    return shlex.join(["afmiddleware", "breaker", "reset", limit.name, *whose, "--policy", policy])


@breaker_group.command("reset")
@click.argument("name")
@click.option("--actor", default="", help="Whose, when the limit counts per actor.")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def breaker_reset(name: str, actor: str, reason: str, policy: str, *, as_json: bool) -> None:
    """Close the breaker NAME. Exit 1 when it was not open."""
    config, _ = policy_at(policy)
    limit = _named(name, [one for one in limits_of(config) if one.on_exceed == "trip"], "breaker")
    key = "global" if limit.per == "global" else f"actor:{actor}"
    order = Order(what="reset", key=key, name=limit.cell, by=who(), reason=reason)
    _do(policy, order, as_json=as_json, said=f"the breaker {name} is closed")


@click.command("reconcile")
@click.argument("reservation", default="")
@click.option("--capture", "amount", help="It was performed: the amount really spent, or `all` that was reserved.")
@click.option("--release", is_flag=True, help="It was not performed: give its money back.")
@policy_option
@json_option
def reconcile_command(reservation: str, amount: str | None, policy: str, *, release: bool, as_json: bool) -> None:
    """List what is not settled, or settle one RESERVATION by its id. Exit 1 when it cannot be."""
    config, base = policy_at(policy)
    if not reservation:
        _list_open(config, policy, as_json=as_json)
        return
    if (amount is None) is not release:
        raise click.UsageError("say --capture AMOUNT or --release, one of them")
    text = "" if amount in (None, "all") else str(amount)
    settlement = Settlement.RELEASE if release else Settlement.CAPTURE
    with closing(open_for_changes(config, base, system_clock)) as ledger:
        closed = ledger.commit(Settle(reservation, settlement, text, who()))
    if not isinstance(closed, Closed) or not closed.state:
        raise AFError(f"there is no reservation {reservation[:64]}")
    if as_json:
        echo_json({"reservation": reservation, "state": closed.state, "booked": closed.booked})
    else:
        click.echo(f"{reservation}: {closed.state}" + ("" if closed.booked else ", as before"))
    sys.exit(0 if closed.booked else 1)


def _list_open(config: Config, policy: str, *, as_json: bool) -> None:
    _, base = policy_at(policy)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        found = [(name, hold) for state in _OPEN for name, hold in ledger.holds(state)]
    told = [
        {
            "reservation": name,
            "state": hold.state,
            "since": _time(hold.created),
            "capability": hold.capability,
            "amount": f"{to_major(hold.reserved, hold.exponent)} {hold.currency}" if hold.currency else "",
        }
        for name, hold in found
    ]
    if as_json:
        echo_json(told)
        return
    none_found(told, "everything is settled")
    for one in told:
        click.echo(f"{one['reservation']}  {one['state']:8} {one['since']}  {one['amount']:>14}  {one['capability']}")


def _do(policy: str, order: Order, *, as_json: bool, said: str, then: Callable[[], None] | None = None) -> None:
    config, base = policy_at(policy)
    with closing(open_for_changes(config, base, system_clock)) as ledger:
        closed = ledger.commit(order)
    if order.what == "freeze" and config.mode != "enforce":
        text = f"{policy} has mode: {config.mode}, so whom the fence only observes goes on; write mode: enforce"
        click.echo(f"warning: {text}", err=True)
    done = isinstance(closed, Closed) and closed.booked
    if done and then is not None:
        then()
    if as_json:
        echo_json({"done": done, "order": order.what})
    else:
        click.echo(said if done else "nothing changes", err=not done)
    sys.exit(0 if done else 1)


def _stop(what: str, target: str, reason: str) -> Order:
    if ":" in target:
        kind, _, name = target.partition(":")
        if kind == "capability":
            raise click.BadParameter(
                f"a capability is written without a word before it: {name[:64]}", param_hint="TARGET"
            )
        if "*" in name:
            said = "one caller is frozen, not a pattern; write its whole name, or a block such as address:192.0.2.0/24"
            raise click.BadParameter(said, param_hint="TARGET")
        return Order(what=what, key=f"actor:{_block(target)}", by=who(), reason=reason)
    pattern = "**" if target == "all" else target
    if not {".", "*"} & set(pattern):
        name = target[:64]
        said = f"{name} may be a caller or a capability: write key:{name}, or {name}.** for the capability"
        raise click.BadParameter(said, param_hint="TARGET")
    try:
        check_pattern(pattern)
    except GrammarError as error:
        raise click.BadParameter(str(error), param_hint="TARGET") from None
    return Order(what=what, key=CONTROL, name=pattern, by=who(), reason=reason)


def _named(name: str, limits: Iterable[Limit], kind: str) -> Limit:
    """The limit with this name. Raises `BadParameter`, which lists those that there are."""
    known = {one.name: one for one in limits}
    if name not in known:
        said = f"the policy has no {kind} {name[:64]}; it has {', '.join(known) or 'none'}"
        raise click.BadParameter(said, param_hint="NAME")
    return known[name]


def _cap(limit: Limit, text: str, config: Config) -> int:
    try:
        if limit.unit is not Unit.SPEND:
            return int(text) if text.isascii() and text.isdecimal() else int("")
        money = Money.parse(text, config.exponents)
    except ValueError:
        shape = "money such as '500 USD'" if limit.unit is Unit.SPEND else "a whole number"
        raise click.BadParameter(f"{text[:40]!r} is not {shape}", param_hint="CAP") from None
    if money.currency != limit.currency:
        raise click.BadParameter(f"the limit {limit.name} is in {limit.currency}", param_hint="CAP")
    return money.minor


def _time(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""
