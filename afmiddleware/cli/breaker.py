"""`breaker`: which circuit breakers are open, and closing one."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from afmiddleware.cli.common import Group, echo_json, json_option, known_as, none_found, policy_at, policy_option, who
from afmiddleware.cli.orders import do, named_limit
from afmiddleware.config.limits import limits_of
from afmiddleware.ledger.open import open_for_reading
from afmiddleware.limits.keys import named_key, values_of
from afmiddleware.model.entry import Order
from afmiddleware.pep.respond import instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from afmiddleware.limits.rows import Row
    from afmiddleware.model.limit import Limit


@click.group("breaker", cls=Group)
def breaker_group() -> None:
    """Circuit breakers: limits with `on_exceed: trip`."""


@breaker_group.command("status")
@click.option("--actor", default="", callback=known_as, help="Of the breakers per actor only those of this one.")
@policy_option
@json_option
def breaker_status(actor: str, policy: str, *, as_json: bool) -> None:
    """Show which breakers are open, whose, since when, and what closes each. Exit 1 when one is."""
    config, base = policy_at(policy)
    limits = [one for one in limits_of(config) if one.on_exceed == "trip"]
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        tripped = list(_tripped(limits, ledger.marked(), actor))
    names = {limit.name for limit, _, _ in tripped}
    told = [
        {
            "breaker": limit.name,
            "state": "open",
            "of": _of(limit, key),
            "since": instant(since),
            "reset": _reset_with(limit, key, policy),
        }
        for limit, key, since in tripped
    ]
    told += [
        {"breaker": one.name, "state": "closed", "of": "", "since": "", "reset": ""}
        for one in limits
        if one.name not in names
    ]
    if as_json:
        echo_json(told)
    else:
        none_found(told, f"{policy} has no breaker")
        for one in told:
            whose = f" of {one['of']}" if one["of"] else ""
            more = f"{whose} since {one['since']}; close it with: {one['reset']}" if one["since"] else ""
            click.echo(f"{one['breaker']:20} {one['state']}{more}")
    sys.exit(1 if tripped else 0)


@breaker_group.command("reset")
@click.argument("name")
@click.option("--actor", default="", callback=known_as, help="Whose, when the limit counts per actor.")
@click.option("--of", "of", multiple=True, metavar="KEY=VALUE", help="Whose, as status says it: --of tenant=acme.")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def breaker_reset(  # noqa: PLR0913 (options)
    name: str, actor: str, of: tuple[str, ...], reason: str, policy: str, *, as_json: bool
) -> None:
    """Close the breaker NAME. Exit 1 when it was not open."""
    config, _ = policy_at(policy)
    limit = named_limit(name, [one for one in limits_of(config) if one.on_exceed == "trip"], "breaker")
    values = {key: value for key, _, value in (one.partition("=") for one in of)}
    if not set(values) <= {*limit.per.split("+")}:
        raise click.BadParameter(f"{name} counts per {limit.per}", param_hint="--of")
    try:
        key = named_key(limit.per, values, actor)
    except ValueError:
        said = f"{name} counts per {limit.per}, so say whose: --actor key:..."
        others = [one for one in limit.per.split("+") if one != "actor" and one not in values]
        raise click.UsageError(said + "".join(f" --of {one}=..." for one in others)) from None
    order = Order(what="reset", key=key, name=limit.cell, by=who(), reason=reason)
    do(policy, order, as_json=as_json, said=f"the breaker {name} is closed")


def _tripped(limits: Iterable[Limit], rows: Iterable[tuple[str, Row]], actor: str) -> Iterator[tuple[Limit, str, int]]:
    """Every open breaker: its limit, the key of its row, and since when."""
    known = {limit.cell: limit for limit in limits}
    for key, row in rows:
        for cell, trip in row.more.trips.items() if row.more is not None else ():
            limit = known.get(cell)
            if limit is not None and (not actor or limit.per != "actor" or key == f"actor:{actor}"):
                yield limit, key, trip.at


def _of(limit: Limit, key: str) -> str:
    """Whose breaker it is, such as `tenant acme`; empty for everybody's."""
    if not key:
        return "a name too long to show"
    values, whose = values_of(key, limit.per) or ({}, "")
    return ", ".join([*(f"{name} {value}" for name, value in values.items()), *([whose] if whose else [])])


def _reset_with(limit: Limit, key: str, policy: str) -> str:
    """The command that closes a breaker, as a shell reads it."""
    found = values_of(key, limit.per)
    if found is None:
        return ""
    values, whose = found
    actor = values.pop("actor", "") or whose
    said = [word for name, value in values.items() for word in ("--of", f"{name}={value}")]
    said += ["--actor", actor] if actor else []
    return shlex.join(["afmiddleware", "breaker", "reset", limit.name, *said, "--policy", policy])
