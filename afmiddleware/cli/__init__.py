"""The command line: `afmiddleware`, in short `afm`. Exit codes: 0 holds, 1 found something, 2 usage."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from afmiddleware.cli.breaker import breaker_group
from afmiddleware.cli.cases import diff_command, replay_command, test_command
from afmiddleware.cli.check import check_command, schema_command
from afmiddleware.cli.common import Group
from afmiddleware.cli.demo import demo_command
from afmiddleware.cli.explain import explain_command, simulate_command
from afmiddleware.cli.imports import import_group
from afmiddleware.cli.init import init_command
from afmiddleware.cli.keys import keys_group
from afmiddleware.cli.operate import (
    budget_command,
    freeze_command,
    limits_group,
    reconcile_command,
    unfreeze_command,
)
from afmiddleware.cli.policy import policy_group
from afmiddleware.cli.receipts import receipts_group
from afmiddleware.cli.token import token_group
from afmiddleware.errors import AFError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="afmiddleware", prog_name="afmiddleware")
def cli() -> None:
    """An action firewall for APIs that AI agents call."""


cli.add_command(demo_command)
cli.add_command(init_command)
cli.add_command(check_command)
cli.add_command(schema_command)
cli.add_command(explain_command)
cli.add_command(simulate_command)
cli.add_command(test_command)
cli.add_command(diff_command)
cli.add_command(replay_command)
cli.add_command(import_group)
cli.add_command(keys_group)
cli.add_command(token_group)
cli.add_command(receipts_group)
cli.add_command(budget_command)
cli.add_command(limits_group)
cli.add_command(freeze_command)
cli.add_command(unfreeze_command)
cli.add_command(breaker_group)
cli.add_command(reconcile_command)
cli.add_command(policy_group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments`, by default those of the process.

    Errors of this package are one clear text on stderr and exit 2, without a traceback.
    """
    try:
        cli(arguments)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"{error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    except AFError as error:
        click.echo(f"afmiddleware: {error}", err=True)
        sys.exit(2)
