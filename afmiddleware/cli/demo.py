"""`afmiddleware demo`: a fenced shop under a real server, an agent that tries things, and the receipts of all of it."""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from afmiddleware.anchoring import anchors_of
from afmiddleware.cli.common import echo_json, many
from afmiddleware.cli.demo_agent import Step
from afmiddleware.errors import ConfigError
from afmiddleware.ledger.verification import verify_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from afmiddleware.config.schema import Config

_NEEDED: Final = {"fastapi": ("fastapi", "uvicorn"), "flask": ("flask",), "django": ("django",)}
"""The frameworks the shop is written for, and the modules that each needs."""
_MISSING: Final = "the demo of {app} needs {absent}: pip install 'afmiddleware[demo]' {absent}"


@click.command("demo")
@click.option("--app", default="fastapi", type=click.Choice([*_NEEDED]), help="The shop's framework.")
@click.option("--policy", type=click.Path(dir_okay=False), help="Another policy for the same agent.")
@click.option("--keep", type=click.Path(file_okay=False), help="Keep the policy, ledger and keys in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON, with what was expected and seen.")
def demo_command(app: str, policy: str | None, keep: str | None, *, as_json: bool) -> None:
    """Start a small shop behind the fence and let an agent try what agents try.

    Everything is real: a web server on a free loopback port (uvicorn for FastAPI, werkzeug for Flask and Django), HTTP
    requests, an SQLite ledger in a temporary folder. Exit 1 when any step is not what a good fence would do.
    """
    absent = " ".join(module for module in ("httpx", *_NEEDED[app]) if find_spec(module) is None)
    if absent:
        raise ConfigError([_MISSING.format(app=app, absent=absent)])
    with _folder(keep) as folder:
        steps = _shown(lambda: _steps(folder, policy, app), plain=as_json or not sys.stdout.isatty(), silent=as_json)
    good = all(step.ok for step in steps)
    if as_json:
        echo_json({"ok": good, "steps": [_told(step) for step in steps]})
    else:
        _close(good=good, steps=steps, keep=keep)
    sys.exit(0 if good else 1)


def _steps(folder: Path, policy: str | None, app: str) -> Iterator[Step]:
    from afmiddleware.cli.demo_agent import Agent
    from afmiddleware.cli.demo_shop import Shop

    with Shop(folder, policy, app) as shop, closing(shop.client()) as client:
        agent = Agent(client, shop.api_key, shop.token)
        yield from agent.steps()
        yield shop.budget_step(agent.budget)
    yield from _verify_steps(shop.config, folder)


def _verify_steps(config: Config, folder: Path) -> Iterator[Step]:
    """Verify the log as it is, then with one row changed behind the fence's back."""
    report = verify_ledger(config, folder, anchors=anchors_of(config.receipts, folder))
    yield Step(
        name="verify the receipts",
        request="afmiddleware receipts verify",
        expected="whole",
        seen=report.status,
        note=f"{many(report.checked, 'receipt')}",
    )
    with sqlite3.connect(folder / "fence.db") as database:
        seq, body = database.execute(
            "SELECT seq, body FROM receipt WHERE capability = 'flights.book' AND kind = 'intent' ORDER BY seq LIMIT 1",
        ).fetchone() or (1, database.execute("SELECT body FROM receipt WHERE seq = 1").fetchone()[0])
        forged = re.sub(rb'"amount":"[0-9]*"', b'"amount":"1"', body, count=1)
        database.execute("UPDATE receipt SET body = ? WHERE seq = ?", (forged, seq))
    database.close()
    report = verify_ledger(config, folder, anchors=anchors_of(config.receipts, folder))
    yield Step(
        name="edit one row, verify again",
        request=f"UPDATE receipt ... WHERE seq = {seq}",
        expected=f"tampered at receipt {seq}",
        seen=f"{report.status} at receipt {report.seq}",
        note=report.reason,
    )


def _shown(run: Callable[[], Iterator[Step]], *, plain: bool, silent: bool) -> list[Step]:
    """Take the steps, showing each as it happens."""
    steps: list[Step] = []
    if plain:
        for step in run():
            steps.append(step)
            if not silent:
                mark = "ok  " if step.ok else "DIFF"
                click.echo(f"{mark}  {step.name}: {step.seen}" + ("" if step.ok else f" (expected {step.expected})"))
        return steps
    with Live(_table(steps), console=Console(), refresh_per_second=8) as live:
        for step in run():
            steps.append(step)
            live.update(_table(steps))
    return steps


def _table(steps: list[Step]) -> Table:
    table = Table(title="An agent at the shop's door", title_justify="left", expand=True, pad_edge=False)
    table.add_column("", width=1)
    table.add_column("What the agent does", ratio=3)
    table.add_column("What the fence answers", ratio=4)
    table.add_column("Why", ratio=5, style="dim")
    for step in steps:
        answer = step.seen if step.ok else f"[red]{step.seen}[/red]\nexpected {step.expected}"
        table.add_row("[green]✓[/green]" if step.ok else "[red]✗[/red]", step.name, answer, step.note)
    return table


def _close(*, good: bool, steps: list[Step], keep: str | None) -> None:
    differ = sum(not step.ok for step in steps)
    click.echo(f"{len(steps)} steps, each as expected." if good else f"{differ} of {len(steps)} steps differ.")
    if keep:
        click.echo(f"Kept in {keep}; look around with: afmiddleware receipts list --policy {Path(keep) / 'fence.yaml'}")


def _told(step: Step) -> dict[str, object]:
    return {
        "step": step.name,
        "request": step.request,
        "expected": step.expected,
        "seen": step.seen,
        "note": step.note,
        "ok": step.ok,
    }


@contextmanager
def _folder(keep: str | None) -> Generator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="afmiddleware-demo-") as temporary:
            yield Path(temporary)
        return
    folder = Path(keep)
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} is not empty; name a new folder to keep the demo in"
        raise ConfigError([msg])
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except ConfigError:
        # Nothing has run: leave nothing behind.
        for left in folder.iterdir():
            left.unlink()
        if created:
            folder.rmdir()
        raise
