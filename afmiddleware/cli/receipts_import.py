"""`afmiddleware receipts import`: an export becomes a ledger of its own, to be read and verified."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from afmiddleware.cli.common import echo_json, json_option, many
from afmiddleware.config.ledger_url import check_ledger
from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.archive import Archived, import_export
from afmiddleware.ledger.open import open_shelf
from afmiddleware.ledger.receipt_key import read_keys
from afmiddleware.receipts.checkpoint import read_publics

if TYPE_CHECKING:
    from afmiddleware.receipts.keys import ReceiptKeys


@click.command("import")
@click.argument("export", type=click.Path(exists=True, dir_okay=False))
@click.option("--into", required=True, help="The new ledger: sqlite:///archive.db, or postgresql://...?schema=archive.")
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A file with a public key the log must be signed by; may be given again.",
)
@click.option(
    "--mac-key",
    type=click.Path(exists=True, dir_okay=False),
    help="The key file of the log's HMACs, to check them too; only its operator has it.",
)
@json_option
def import_command(export: str, into: str, public_keys: tuple[str, ...], mac_key: str | None, *, as_json: bool) -> None:
    """Read the EXPORT of a whole log into a new ledger: an archive, which no server continues.

    It is verified first; one bad line, and nothing is imported (exit 3, with the line and the reason). Look into it
    by a policy file whose `ledger` it is: receipts list, show, verify, prove.
    """
    try:
        check_ledger(into)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--into") from None
    try:
        trusted = [key for place in public_keys for key in read_publics(Path(place).read_text(encoding="utf-8"))]
        keys = read_keys(Path(mac_key)) if mac_key else None
        found = _imported(Path(export), into, trusted, keys, quiet=as_json or not sys.stderr.isatty())
    except (ReceiptError, UnicodeDecodeError) as error:
        if as_json:
            echo_json({"imported": 0, "reason": str(error)})
        else:
            click.echo(f"refused: {error}", err=True)
        sys.exit(3)
    if as_json:
        echo_json({"imported": found.size, "log": found.log, "macs": "ok" if mac_key else "not checked"})
    else:
        click.echo(f"{many(found.size, 'receipt')} of log {found.log} {'is' if found.size == 1 else 'are'} in {into}.")
        if not mac_key:
            click.echo("Their HMACs were not checked: who has the log's key says --mac-key FILE.", err=True)


def _imported(place: Path, into: str, trusted: list[bytes], keys: ReceiptKeys | None, *, quiet: bool) -> Archived:
    with place.open("rb") as file:
        if quiet:
            return import_export(file, lambda: open_shelf(into, Path.cwd()), trusted, keys=keys)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("importing", total=2 * place.stat().st_size)
            return import_export(
                file,
                lambda: open_shelf(into, Path.cwd()),
                trusted,
                lambda done: progress.update(task, completed=done),
                keys,
            )
