"""`afmiddleware check` and `afmiddleware schema`: the policy file, before anything runs."""

from __future__ import annotations

import json
import sys

import click

from afmiddleware.cli.common import echo_json, json_option, policy_at, policy_option
from afmiddleware.config.json_schema import json_schema
from afmiddleware.errors import ConfigError


@click.command("check")
@policy_option
@json_option
def check_command(policy: str, *, as_json: bool) -> None:
    """Read the policy file and report every error in it, each with its line. Exit 1 when there are any."""
    problems: tuple[str, ...] = ()
    try:
        config, _ = policy_at(policy)
    except ConfigError as error:
        problems = error.problems
    if as_json:
        echo_json({"policy": policy, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            click.echo(problem, err=True)
    else:
        routes, rules = len(config.routes), len(config.rules.deny) + len(config.rules.allow)
        click.echo(f"{policy}: {routes} routes, {rules} rules, {len(config.limits)} limits; no errors.")
    if problems:
        sys.exit(1)


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the policy file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
