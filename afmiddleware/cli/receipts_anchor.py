"""`afmiddleware receipts anchor`: how the log stands with its anchors, and the mark taken to all of them now."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from afmiddleware.anchoring import anchors_of
from afmiddleware.cli.common import echo_json, json_option, many, policy_at, policy_option
from afmiddleware.errors import ConfigError, ReceiptError
from afmiddleware.ledger.anchor import AnchorError, check_mark
from afmiddleware.ledger.open import open_for_reading
from afmiddleware.receipts.anchor import Anchor

if TYPE_CHECKING:
    from afmiddleware.ledger.anchor import Place
    from afmiddleware.ledger.base import Reader


@click.command("anchor")
@policy_option
@click.option("--check", is_flag=True, help="Only compare the log with the marks that can be read back.")
@json_option
def anchor_command(policy: str, *, check: bool, as_json: bool) -> None:
    """Take the mark of the log to every place the policy names, after comparing it with those that can be read.

    Exit 1 when a place fails, or has seen another log.
    """
    config, base = policy_at(policy)
    anchors = anchors_of(config.receipts, base)
    if anchors is None:
        raise ConfigError([f"{config.source}: receipts.anchor names no place; add one, such as anchor: {{file: ...}}"])
    with closing(open_for_reading(config, base)) as ledger:
        told = [_told(place, ledger, check=check) for place in anchors.places]
    if as_json:
        echo_json(told)
    else:
        for one in told:
            click.echo(f"{one['place']}: {one['error'] or one['state']}")
    sys.exit(1 if any(one["error"] for one in told) else 0)


def _told(place: Place, ledger: Reader, *, check: bool) -> dict[str, str]:
    """What became of one place: its name, and either how it stands or what is wrong."""
    head = ledger.head()
    state = "cannot be read back" if check else f"has the mark of {many(head.size, 'receipt')}"
    try:
        mark = place.get() if place.readable else None
        if mark is not None:
            check_mark(mark, place.name, ledger)
        if check and place.readable:
            state = f"{mark.size} of {many(head.size, 'receipt')}" if mark is not None else "has no mark yet"
        if not check and head.size:
            place.put(Anchor(head.log, head.size, head.leaf, _note(ledger, head.size)))
    except (AnchorError, ReceiptError) as error:
        return {"place": place.name, "state": "", "error": str(error)}
    return {"place": place.name, "state": state, "error": ""}


def _note(ledger: Reader, size: int) -> str:
    """The signed checkpoint of exactly so many receipts."""
    return next((note for covered, note in ledger.checkpoints(size - 1) if covered == size), "")
