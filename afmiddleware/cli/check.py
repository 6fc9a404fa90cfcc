"""`afmiddleware check` and `afmiddleware schema`: the policy file, before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afmiddleware.assemble import assemble, audited, declared_in
from afmiddleware.cli.common import echo_json, json_option, many, policy_at, policy_option
from afmiddleware.cli.coverage import listing_of, show, told
from afmiddleware.config.calls import with_calls
from afmiddleware.config.identity_schema import unlooked
from afmiddleware.config.json_schema import json_schema
from afmiddleware.config.ledger_url import MEMORY
from afmiddleware.config.limits import limits_of
from afmiddleware.config.schema import Config, Route
from afmiddleware.errors import ConfigError
from afmiddleware.mapping.coverage import Report
from afmiddleware.plan import Plan
from afmiddleware.policy.lint import Finding, lint

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.command("check")
@policy_option
@click.option("--app", metavar="MODULE:APP", help="Also audit an application: which endpoint is which capability.")
@click.option("--strict", is_flag=True, help="Exit 1 for what is hardly meant, too.")
@json_option
def check_command(policy: str, app: str | None, *, strict: bool, as_json: bool) -> None:
    """Read the policy file and report every error in it, each with its line. Exit 1 for errors, 2 without a file.

    With --app the application is imported (it runs nothing), every endpoint of its router is listed with its
    capability, and what is not covered is found: then exit 1 too. What the policy says and hardly means is told as
    well, each with its line, a stable id and what to do; with --strict that is exit 1.
    """
    doubts: list[Finding] = []
    problems: tuple[str, ...] = ()
    config: Config | None = None
    plan: Plan | None = None
    report: Report | None = None
    try:
        config, base = policy_at(policy)
        plan, _ = assemble(config, base)
        routes = config.routes
        if app:
            listing = listing_of(app, plan, config.source)
            report = audited(plan, config, listing)
            routes = (*routes, *declared_in(config, listing))
        doubts = doubts_of(config, plan, routes)
    except ConfigError as error:
        if not Path(policy).is_file():
            raise
        problems = error.problems
    found = problems or (report.findings if report is not None else ())
    if as_json:
        audit = {"app": app, **told(report)} if report is not None else {}
        echo_json({"policy": policy, "ok": not found, "problems": problems, "lint": doubts} | audit)
    elif problems:
        for problem in problems:
            click.echo(problem, err=True)
    elif config is not None and plan is not None:
        rules = sum(map(len, plan.policy.rules.values()))
        for doubt in doubts:
            where = f"{policy}:{doubt.line}" if doubt.line else policy
            click.echo(f"{where}: {doubt.id}: {doubt.text}", err=True)
        counted = ", ".join((many(len(config.routes), "route"), many(rules, "rule"), many(len(config.limits), "limit")))
        click.echo(f"{policy}: {counted}; no errors.")
        if report is not None:
            show(app or "", report)
    if found or (strict and doubts):
        sys.exit(1)


def doubts_of(config: Config, plan: Plan, routes: Iterable[Route]) -> list[Finding]:
    """What a policy says and hardly means, with the routes that are declared in code among `routes`."""
    return lint(
        plan.policy,
        with_calls(routes),
        limits_of(config),
        currency=config.currency,
        mode=config.mode,
        actors=config.actors,
        unmarked=unlooked(config.identity.agent_detection),
        in_memory=config.ledger in MEMORY,
    )


@click.command("schema")
@json_option
def schema_command(*, as_json: bool) -> None:
    """Print the JSON Schema of the policy file, for editors. It is JSON with and without --json."""
    del as_json
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
