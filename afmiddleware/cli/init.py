"""`afmiddleware init`: a first policy, from the routes of an application."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from afmiddleware.assemble import adopt, assemble
from afmiddleware.cli.common import many
from afmiddleware.cli.coverage import application, listed
from afmiddleware.cli.packs import PACKS
from afmiddleware.cli.starter import compose, lines_of
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.mapping.coverage import Listing

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@click.command("init")
@click.option("--app", metavar="MODULE:APP", help="The application; it is imported, and runs nothing.")
@click.option(
    "--pack", "packs", multiple=True, type=click.Choice(list(PACKS)), help="Starter rules; may be given again."
)
@click.option("--anonymous-reads", is_flag=True, help="Let anybody read, without a credential.")
@click.option("--service", default=None, help="The name of the service.  [default: the current folder's]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("fence.yaml"),
    show_default=True,
    help="The file to write; it must not exist yet.",
)
def init_command(
    app: str | None,
    packs: tuple[str, ...],
    service: str | None,
    output: Path,
    *,
    anonymous_reads: bool,
) -> None:
    """Write a first policy: every route of the application, closed by default, with guesses marked REVIEW.

    What reads is open to callers with a credential, what changes something is closed until you open it. Documentation,
    static files and health checks are proposed as public. Money is guessed from the names in an OpenAPI description.
    Nothing is ever overwritten.
    """
    if app is None and not packs:
        msg = "name an application (--app module:app), a pack of rules (--pack), or both"
        raise click.UsageError(msg)
    if os.path.lexists(output):
        msg = f"{output} exists and is not overwritten; name another file with --output"
        raise click.UsageError(msg)
    listing, document = _look(app) if app is not None else (Listing(), None)
    skipped = [
        f"{one.method} {one.template} ({one.kind}): {_WHY[one.kind]}" for one in listing.endpoints if one.kind in _WHY
    ]
    text = compose(
        service or Path.cwd().name or "service",
        lines_of(listing.endpoints, document),
        layers=dict.fromkeys(listing.layers),
        skipped=skipped,
        anonymous_reads=anonymous_reads,
        packs=[PACKS[name] for name in dict.fromkeys(packs)],
    )
    config = load(text, str(output))
    plan, keys = assemble(config, output.absolute().parent)
    keys.close()
    if app is not None:
        adopt(plan, config, listing)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        msg = f"{output} cannot be written: {error.strerror}"
        raise click.UsageError(msg) from None
    review = text.count("REVIEW") - 1
    click.echo(f"{output}: {many(len(config.routes), 'route')} written, {many(review, 'place')} to review.")
    click.echo(f"Next: afmiddleware check --policy {output}" + (f" --app {app}" if app else ""))


_LAYER = re.compile(r"inner_middleware: (\S+) stands between")
_WHY = {
    "websocket": "no agent reaches it; mark it `public: true` if nobody has to be judged there",
    "unknown": "the fence cannot see what it runs",
}


def _look(place: str) -> tuple[Listing, Any]:
    """What an application has, and its OpenAPI description if it makes one."""
    app = _imported(place)
    listing = listed(app, place)
    if listing is None:
        msg = f"{place}: no adapter knows this kind of application, so its routes cannot be listed; write them by hand"
        raise click.UsageError(msg)
    describe = getattr(app, "openapi", None)
    return listing, describe() if callable(describe) else None


def _imported(place: str, layers: Sequence[str] | None = None) -> Any:
    """An application, whose own fence may ask for the very file that is to be written: it is given another one then.

    Any policy lets it be listed that names the `layers` between its fence and its handlers.
    """
    try:
        with nullcontext() if layers is None else _stand_in(layers):
            return application(place)
    except ConfigError as error:
        found = [match.group(1) for one in error.problems if (match := _LAYER.match(one))]
        if layers is not None and (layers or not found):
            raise
        return _imported(place, found)


@contextmanager
def _stand_in(layers: Sequence[str]) -> Generator[None]:
    """A policy that allows nothing, in the place of whichever an application names."""
    before = os.environ.get("AFM_POLICY")
    with TemporaryDirectory() as folder:
        policy = Path(folder) / "fence.yaml"
        text = f"version: 1\nservice: init\nledger: memory\nreload: off\ninner_middleware: {json.dumps(layers)}\n"
        policy.write_text(text, "utf-8")
        os.environ["AFM_POLICY"] = str(policy)
        try:
            yield
        finally:
            if before is None:
                del os.environ["AFM_POLICY"]
            else:
                os.environ["AFM_POLICY"] = before
