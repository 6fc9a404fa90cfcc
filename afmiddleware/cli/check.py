"""`afmiddleware check` and `afmiddleware schema`: the policy file, before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from afmiddleware.assemble import assemble
from afmiddleware.cli.common import echo_json, json_option, policy_at, policy_option
from afmiddleware.config.json_schema import json_schema
from afmiddleware.config.schema import Config
from afmiddleware.errors import ConfigError


@click.command("check")
@policy_option
@json_option
def check_command(policy: str, *, as_json: bool) -> None:
    """Read the policy file and report every error in it, each with its line. Exit 1 for errors, 2 without a file."""
    problems: tuple[str, ...] = ()
    config: Config | None = None
    try:
        config, base = policy_at(policy)
        assemble(config, base)
    except ConfigError as error:
        if not Path(policy).is_file():
            raise
        problems = error.problems
    if as_json:
        echo_json({"policy": policy, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            click.echo(problem, err=True)
    elif config is not None:
        routes, rules = len(config.routes), len(config.rules.deny) + len(config.rules.allow)
        click.echo(f"{policy}: {routes} routes, {rules} rules, {len(config.limits)} limits; no errors.")
    if problems:
        sys.exit(1)


@click.command("schema")
@json_option
def schema_command(*, as_json: bool) -> None:
    """Print the JSON Schema of the policy file, for editors. It is JSON with and without --json."""
    del as_json
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
