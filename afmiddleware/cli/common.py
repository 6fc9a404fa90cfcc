"""What several commands share: where the policy is, and how output is written."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from afmiddleware.config.load import load_place
from afmiddleware.errors import ConfigError
from afmiddleware.policy_file import read_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from pathlib import Path

    from afmiddleware.config.schema import Config

_SENTENCE: Final = 1000
F = TypeVar("F", bound="Callable[..., Any]")


class Group(click.Group):
    """Commands whose list tells the whole first sentence of each, over several lines where it is long."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_SENTENCE)) for name, one in found if one is not None])


def policy_option(function: F) -> F:
    """`--policy FILE`, which `AFM_POLICY` also sets."""
    option = click.option(
        "--policy",
        type=click.Path(dir_okay=False),
        envvar="AFM_POLICY",
        default="fence.yaml",
        show_default=True,
        help="The policy file.",
    )
    return option(function)


def json_option(function: F) -> F:
    """`--json`: JSON on stdout instead of text for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def policy_at(policy: str) -> tuple[Config, Path]:
    """Read a policy file that was named on the command line, with its folder. Raises `ConfigError`."""
    return read_policy(None, {**os.environ, "AFM_POLICY": policy})


def ledger_at(policy: str) -> tuple[Config, Path, bool]:
    """Read a policy file for a command that has to work while it is wrong, and does with its ledger alone.

    Says what is wrong; the last is whether nothing is. Raises `ConfigError` where the file does not tell of its ledger.
    """
    env = {**os.environ, "AFM_POLICY": policy}
    try:
        return *read_policy(None, env), True
    except ConfigError as error:
        try:
            found = read_policy(None, env, load_place)
        except ConfigError:
            raise error from None
        for problem in error.problems:
            click.echo(problem, err=True)
        click.echo(f"warning: {policy} is wrong, and this is done all the same, in the ledger that it names", err=True)
        return *found, False


def known_as(_context: click.Context, _parameter: click.Parameter, actor: str) -> str:
    """The id of an actor as the command line has it, or nothing. Raises `click.BadParameter` for a bare name."""
    if actor and ":" not in actor:
        name = actor[:64]
        msg = f"{name} is no actor: write key:{name} for whoever has its API keys, or jwt:..., local:..., address:..."
        raise click.BadParameter(msg)
    return actor


def time_of(text: str) -> datetime:
    """A date or time (ISO 8601), in UTC unless it says. Raises `ValueError`."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def none_found(found: Sized, text: str) -> None:
    """Say on stderr, where a list has nothing in it, what it is that there is none of."""
    if not found:
        click.echo(text, err=True)


def echo_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def many(count: int, noun: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def who() -> str:
    """Whom the records name as the one who gave an order: the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
