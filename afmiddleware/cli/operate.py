"""What the operator does at run time: `budget`, `limits`, `freeze`, `unfreeze`, `reconcile`."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from afmiddleware.anchoring import open_for_changes
from afmiddleware.cli.common import (
    Group,
    echo_json,
    json_option,
    known_as,
    ledger_at,
    none_found,
    policy_at,
    policy_option,
    who,
)
from afmiddleware.cli.explain import unnamed
from afmiddleware.cli.orders import do, give, named_limit
from afmiddleware.config.limits import limits_of
from afmiddleware.config.overlays import overlays_of
from afmiddleware.errors import AFError, GrammarError
from afmiddleware.fence import system_clock
from afmiddleware.grammar.amounts import to_major
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.identity.address import block_key
from afmiddleware.ledger.open import open_for_reading, open_rates, with_shared
from afmiddleware.limits.budget import key_of, standings
from afmiddleware.limits.charge import amount_text, cap_text, window_text
from afmiddleware.limits.judge import own_limit
from afmiddleware.limits.select import Limits
from afmiddleware.limits.stops import CONTROL, named
from afmiddleware.model.actor import Actor
from afmiddleware.model.entry import Closed, Order, Settle
from afmiddleware.model.limit import Unit
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Settlement
from afmiddleware.pep.respond import instant

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware.ledger.base import Reader
    from afmiddleware.limits.budget import Standing
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
    """How ACTOR stands, such as key:acct_42: whether it is frozen, and of every limit what is used, held and left.

    A limit that counts by more than the actor's name tells, such as its session or recipients, comes without numbers.
    `stopped` are the capabilities that are frozen for everybody.
    """
    config, base = policy_at(policy)
    limits = Limits(limits_of(config), overlays_of(config)).of_actor(actor)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        who_acts, known = _known_of(actor, ledger)
        address = actor.removeprefix("address:")
        found = [(key, one) for one in limits if (key := key_of(one, who_acts, address, known))]
        wanted = sorted({key for key, _ in found} | {f"actor:{actor}"})
        rows = with_shared(config, ledger.rows(wanted), wanted)
        stops = ledger.rows([CONTROL, *(f"actor:{name}" for name in named(actor))])
        open_holds = [hold for state in ("held", "unknown") for _, hold in ledger.holds(state)]
        stand = {one.limit.name: one for one in standings(found, actor, rows, system_clock(), open_holds)}
    told = [_told(one, stand.get(one.name)) for one in limits]
    reasons = {key: row.more.frozen for key, row in stops.items() if row.more is not None and row.more.frozen}
    stopped = reasons.pop(CONTROL, {})
    if as_json:
        echo_json({"actor": actor, "frozen": bool(reasons), "stopped": sorted(stopped), "limits": told})
        return
    for key, why in reasons.items():
        click.echo(f"{key.removeprefix('actor:')} is frozen{_because(why[''])}")
    for pattern, reason in sorted(stopped.items()):
        click.echo(f"{pattern} is frozen for everybody{_because(reason)}")
    none_found(told, f"{policy} has no limits")
    for one in told:
        if not one["used"]:
            click.echo(f"{one['limit']:20} {'':>14}    {one['cap']:>14}  counted per {one['per']}")
            continue
        left = f"  left {one['remaining']:>12}" if one["remaining"] else ""
        reset = f"  resets {one['resets_at']}" if one["resets_at"] else ""
        state = f"  breaker {one['breaker']}" if one["breaker"] else ""
        click.echo(
            f"{one['limit']:20} {one['used']:>14} of {one['cap']:>14}  held {one['held']:>12}{left}{reset}{state}"
        )


def _known_of(actor: str, ledger: Reader) -> tuple[Actor, frozenset[str]]:
    """An actor as far as its name tells it, and by which keys a limit may count it that are known then."""
    kind, _, name = actor.partition(":")
    if kind == "address":
        return Actor(id=actor), frozenset({"actor", "principal", "tenant", "address"})
    if kind not in ("key", "local", "app"):
        return Actor(id=actor), frozenset({"actor"})
    tenants = {""}
    if kind == "key":
        tenants = {one.tenant for one in ledger.api_keys() if one.account == name and not one.revoked}
    if len(tenants) != 1:
        return Actor(id=actor, account=name), frozenset({"actor", "principal"})
    return Actor(id=actor, account=name, tenant="".join(tenants)), frozenset({"actor", "principal", "tenant"})


def _told(limit: Limit, one: Standing | None) -> dict[str, str]:
    """How a limit stands, without numbers where its counter is not known by the actor alone."""
    told = {"limit": limit.name, "per": limit.per, "cap": cap_text(limit)}
    if one is None:
        return told | dict.fromkeys(("used", "held", "remaining", "resets_at", "breaker"), "")
    return told | {
        "cap": cap_text(one.limit),
        "used": amount_text(one.limit, one.used),
        "held": amount_text(one.limit, one.held),
        "remaining": "" if one.limit.claim else amount_text(one.limit, one.remaining),
        "resets_at": instant(one.resets_at),
        "breaker": ("open" if one.tripped else "closed") if one.limit.on_exceed == "trip" else "",
    }


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


@click.group("limits", cls=Group)
def limits_group() -> None:
    """The limits of the policy, and caps of single actors beside it."""


@limits_group.command("list")
@click.argument("actor", default="", callback=_capped_as)
@policy_option
@json_option
def limits_list(actor: str, policy: str, *, as_json: bool) -> None:
    """List the limits of the policy: with ACTOR under the caps that it has, by the policy or by `limits set`."""
    config, base = policy_at(policy)
    limits = limits_of(config)
    if actor:
        with closing(open_for_reading(config, base)) as ledger:
            ledger.head()
            row = ledger.rows([f"actor:{actor}"]).get(f"actor:{actor}")
        caps = row.more.caps if row is not None and row.more is not None else {}
        limits = tuple(own_limit(one, caps) for one in Limits(limits, overlays_of(config)).of_actor(actor))
    told = [
        {"limit": one.name, "per": one.per, "cap": cap_text(one), "window": window_text(one.window)} for one in limits
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
    limit = named_limit(name, limits_of(config), "limit")
    if limit.per == "global" and cap != "none":
        raise click.BadParameter(f"{name} counts everybody together; change its cap in {policy}", param_hint="NAME")
    what = "uncap" if cap == "none" else "cap"
    value = 0 if cap == "none" else _cap(limit, cap, config)
    order = Order(what=what, key=f"actor:{actor}", name=name, value=value, override=override, by=who(), reason=reason)
    said = f"{name} of {actor}: {cap}"
    if what == "cap" and not override and not limit.claim and value > limit.cap:
        said += f"; the policy's {cap_text(limit)} is narrower and holds: let it be wider with --override"
    do(policy, order, as_json=as_json, said=said)


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
        do(policy, order, as_json=as_json, said="what was closed is open", then=rates.accept)


@click.command("freeze")
@click.argument("target")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def freeze_command(target: str, reason: str, policy: str, *, as_json: bool) -> None:
    """Refuse everything of an actor (key:..., jwt:..., local:...), of a capability pattern, or of `all`."""
    order = _stop("freeze", target, reason)
    config, base, whole = ledger_at(policy)
    # What is named is only known of a policy that is right.
    if whole and (note := unnamed(config, order.name, policy) if order.name else _keyless(config, base, target)):
        click.echo(note, err=True)
    give((config, base), order, as_json=as_json, said=f"{target} is frozen")


@click.command("unfreeze")
@click.argument("target")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def unfreeze_command(target: str, reason: str, policy: str, *, as_json: bool) -> None:
    """Let what was frozen act again. Exit 1 when it was not frozen."""
    order = _stop("unfreeze", target, reason)
    give(ledger_at(policy)[:2], order, as_json=as_json, said=f"{target} may act again")


@click.command("reconcile")
@click.argument("reservation", default="")
@click.option("--capture", "amount", help="It was performed: the amount really spent, such as 12.50, or `all`.")
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
        text, _, currency = text.partition(" ")
        if currency:
            _same_currency(ledger, reservation, currency)
        closed = ledger.commit(Settle(reservation, settlement, text, who()))
    if not isinstance(closed, Closed) or not closed.state:
        raise AFError(f"there is no reservation {reservation[:64]}")
    if as_json:
        echo_json({"reservation": reservation, "state": closed.state, "booked": closed.booked})
    else:
        click.echo(f"{reservation}: {closed.state}" + ("" if closed.booked else ", as before"))
    sys.exit(0 if closed.booked else 1)


def _keyless(config: Config, base: Path, actor: str) -> str:
    """That nobody has an API key as this account, which may be mistyped; or nothing."""
    kind, _, account = actor.partition(":")
    if kind != "key":
        return ""
    try:
        with closing(open_for_reading(config, base)) as ledger:
            if any(one.account == account for one in ledger.api_keys()):
                return ""
    except AFError:
        # The order itself says what is wrong with the ledger, or makes the first one.
        return ""
    return f"note: {account} has no API key in the ledger; those that have: afmiddleware keys list"


def _same_currency(ledger: Reader, reservation: str, currency: str) -> None:
    """Hold an amount that names its currency, as the list does, against the one that was reserved."""
    reserved = next((hold.currency for state in _OPEN for name, hold in ledger.holds(state) if name == reservation), "")
    if reserved and currency.strip() != reserved:
        said = f"{reservation} is in {reserved}, not in {currency[:40].strip()}"
        raise click.BadParameter(said, param_hint="--capture")


def _list_open(config: Config, policy: str, *, as_json: bool) -> None:
    _, base = policy_at(policy)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        found = [(name, hold) for state in _OPEN for name, hold in ledger.holds(state)]
    told = [
        {
            "reservation": name,
            "state": hold.state,
            "since": instant(hold.created),
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
