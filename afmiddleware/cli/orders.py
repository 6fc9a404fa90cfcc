"""What the commands of an operator have in common: an order to the ledger, how it ends, and the names of limits."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NoReturn

import click

from afmiddleware.anchoring import open_for_changes
from afmiddleware.cli.common import echo_json, policy_at
from afmiddleware.fence import system_clock
from afmiddleware.model.entry import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware.model.entry import Order
    from afmiddleware.model.limit import Limit


def do(policy: str, order: Order, *, as_json: bool, said: str, then: Callable[[], None] | None = None) -> None:
    """Give an order, say what was done, and end the command: with 1 when nothing changes."""
    give(policy_at(policy), order, as_json=as_json, said=said, then=then)


def give(
    place: tuple[Config, Path], order: Order, *, as_json: bool, said: str, then: Callable[[], None] | None = None
) -> NoReturn:
    """The same, to the ledger of a policy that was read, which is in this folder."""
    config, base = place
    with closing(open_for_changes(config, base, system_clock)) as ledger:
        closed = ledger.commit(order)
    if order.what == "freeze" and config.mode != "enforce":
        text = f"{config.source} has mode: {config.mode}, so whom the fence only observes goes on; write mode: enforce"
        click.echo(f"warning: {text}", err=True)
    done = isinstance(closed, Closed) and closed.booked
    if done and then is not None:
        then()
    ended(done, {"order": order.what}, said, as_json=as_json)


def ended(done: bool, told: dict[str, Any], said: str, *, as_json: bool) -> NoReturn:  # noqa: FBT001 (it is the answer)
    """Say what was done, as JSON with what else is `told`, and end the command: with 1 when nothing changes."""
    if as_json:
        echo_json({"done": done, **told})
    else:
        click.echo(said if done else "nothing changes", err=not done)
    sys.exit(0 if done else 1)


def named_limit(name: str, limits: Iterable[Limit], kind: str) -> Limit:
    """The limit with this name. Raises `BadParameter`, which lists those that there are."""
    known = {one.name: one for one in limits}
    if name not in known:
        said = f"the policy has no {kind} {name[:64]}; it has {', '.join(known) or 'none'}"
        raise click.BadParameter(said, param_hint="NAME")
    return known[name]
