"""`afmiddleware policy`: which policy decides for all processes of a ledger, and making one the only one."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from afmiddleware.anchoring import open_for_changes
from afmiddleware.assemble import assemble
from afmiddleware.cli.common import Group, echo_json, json_option, policy_at, policy_option, who
from afmiddleware.cli.orders import ended
from afmiddleware.cli.receipt_text import when
from afmiddleware.fence import system_clock
from afmiddleware.former import check_text
from afmiddleware.ledger.open import open_for_reading
from afmiddleware.ledger.orders import RELEASE
from afmiddleware.limits.generations import generation_in, superseded
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model.entry import Closed, InForce, Order
from afmiddleware.policy_file import PolicyFile

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.config.schema import Config

_DIGEST = re.compile("[0-9a-f]{8,64}")
_REASON = click.option("--reason", default="", help="Why, for the record.")


@click.group("policy", cls=Group)
def policy_group() -> None:
    """Which policy decides for every process of a ledger.

    A policy goes here by the digest of its file and of its lists' files.
    """


@policy_group.command("status")
@policy_option
@json_option
def policy_status(policy: str, *, as_json: bool) -> None:
    """Show which policy is in force, since when, and which are superseded. Exit 1 when the file's would be refused.

    Refused, with 503, is whatever is decided by a superseded policy, and by any but a pinned one.
    """
    config, base = policy_at(policy)
    here = _digest(config, base)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        found = generation_in(ledger.rows([CONTROL]))
    refused = superseded(found, here)
    file = {"path": policy, "policy": here, "decides": not refused}
    if as_json:
        told = {
            "generation": found.number if found is not None else 0,
            "policy": found.digest if found is not None else "",
            "since": when(found.since) if found is not None else "",
            "pinned": found is not None and found.pinned,
            "superseded": found.superseded if found is not None else (),
        }
        echo_json({**told, "file": file})
    elif found is None:
        click.echo(f"{policy} ({here[:16]}): no policy was put in force yet, so any may decide")
    else:
        only = ", the only one that may decide" if found.pinned else ""
        click.echo(f"generation {found.number}: policy {found.digest[:16]} since {when(found.since)}{only}")
        for one in reversed(found.superseded):
            click.echo(f"superseded: {one[:16]}")
        said = "is what is in force" if here == found.digest else "decides where it runs"
        click.echo(f"{policy} ({here[:16]}) {'is refused' if refused else said}")
    sys.exit(1 if refused else 0)


@policy_group.command("activate")
@_REASON
@policy_option
@json_option
def policy_activate(reason: str, policy: str, *, as_json: bool) -> None:
    """Let the policy of this file alone decide, in every process, from the next request on. Exit 1 if it does already.

    A process that has another one reads its file again, and answers 503 while that says something else, also one that
    is started anew. What only observes passes, flagged. A change of the file in a process that runs is taken up as
    before. `release` ends it.
    """
    config, base = policy_at(policy)
    digest = _digest(config, base)
    mode = "observe" if config.mode == "observe" else "enforce"
    text = PolicyFile(policy, {}).kept(config, base, digest)
    item = InForce(digest, mode, "activate", who(), reason, digest, text=text)
    _do(config, base, item, as_json=as_json, said=f"{policy} ({digest[:16]}) is the only policy that may decide")


@policy_group.command("release")
@_REASON
@policy_option
@json_option
def policy_release(reason: str, policy: str, *, as_json: bool) -> None:
    """Let processes start with other policies again, after `activate`. Exit 1 when no policy is the only one."""
    config, base = policy_at(policy)
    item = Order(what=RELEASE, key=CONTROL, by=who(), reason=reason)
    _do(config, base, item, as_json=as_json, said="other policies may be put in force again")


@policy_group.command("show")
@click.argument("digest")
@policy_option
@json_option
def policy_show(digest: str, policy: str, *, as_json: bool) -> None:
    """Print the text of a policy that was put in force, by its DIGEST or the beginning of that, as receipts name it.

    Lists that have a file of their own follow, each under a comment with its name. Exit 1 when it was not kept.
    """
    if not _DIGEST.fullmatch(digest):
        raise click.BadParameter("write 8 to 64 hexadecimal digits, as status and receipts show", param_hint="DIGEST")
    config, base = policy_at(policy)
    with closing(open_for_reading(config, base)) as ledger:
        ledger.head()
        found = ledger.policy(digest)
    if found is not None:
        check_text(found)
    if found is None:
        click.echo(f"no policy that begins with {digest} was kept, or several were", err=True)
    elif as_json:
        echo_json({"policy": found.file, "text": found.text, "lists": found.lists})
    else:
        click.echo(found.text, nl=False)
        for name, content in sorted(found.lists.items()):
            click.echo(f"# the file of the list {name}\n{content}", nl=False)
    sys.exit(1 if found is None else 0)


def _do(config: Config, base: Path, item: InForce | Order, *, as_json: bool, said: str) -> None:
    with closing(open_for_changes(config, base, system_clock)) as ledger:
        closed = ledger.commit(item)
        found = generation_in(ledger.rows([CONTROL]))
    number = found.number if found is not None else 0
    done = isinstance(closed, Closed) and closed.booked
    told = {"generation": number, "policy": found.digest if found is not None else ""}
    ended(done, told, f"{said} (generation {number})", as_json=as_json)


def _digest(config: Config, base: Path) -> str:
    """The digest of a policy's file and lists. Raises `ConfigError` with every problem of the policy."""
    plan, keys = assemble(config, base)
    keys.close()
    return plan.file
