"""`afmiddleware receipts new-epoch`: go on after a loss, with the gap on record."""

from __future__ import annotations

from pathlib import Path

import click

from afmiddleware.anchoring import anchors_of, renew
from afmiddleware.cli.common import echo_json, json_option, many, policy_at, policy_option, who
from afmiddleware.errors import ReceiptError
from afmiddleware.fence import system_clock
from afmiddleware.ledger.anchor import AnchorFile, read_anchor
from afmiddleware.model.entry import NewEpoch
from afmiddleware.receipts.anchor import Anchor


@click.command("new-epoch")
@click.option("--reason", required=True, help="Why the old log cannot be continued. It stands in the new one for good.")
@click.option("--anchor", type=click.Path(dir_okay=False), help="The last mark of the old log, when it is elsewhere.")
@click.option("--unanchored", is_flag=True, help="Go on although no mark of the old log is left.")
@policy_option
@json_option
def epoch_command(reason: str, anchor: str | None, policy: str, *, unanchored: bool, as_json: bool) -> None:
    """Begin a new log where the old one was cut off, rewritten or lost. Stop every server first.

    The first record names the last anchored checkpoint of the old log and what the ledger still held of it. That is
    copied, the anchors get the mark of the new log, open reservations are carried over; counters and API keys stay.
    """
    config, base = policy_at(policy)
    anchors = anchors_of(config.receipts, base)
    mark = _last(anchor, [mark for _, mark in anchors.marks() if mark is not None] if anchors is not None else [])
    if mark is None and not unanchored:
        msg = "no anchor has a mark of the old log: bring it with --anchor FILE, or go on without one by --unanchored"
        raise ReceiptError(msg)
    old = (mark.log, mark.size, mark.leaf.hex(), mark.checkpoint) if mark is not None else ("", 0, "", "")
    for place in anchors.places if anchors is not None else ():
        if isinstance(place, AnchorFile):
            _keep(place.path)
    closed, copy = renew(config, base, system_clock, NewEpoch(old=old, reason=reason, by=who()))
    if as_json:
        echo_json({"log": closed.state, "old_log": old[0], "old_size": old[1], "copy": copy})
        return
    click.echo(f"log {closed.state} goes on from {old[0] or 'a log without a mark'} at {many(old[1], 'receipt')}.")
    click.echo(f"What was there is kept in {copy}." if copy else "There was nothing to keep.")


def _last(anchor: str | None, marks: list[Anchor]) -> Anchor | None:
    if anchor is None:
        return max(marks, key=lambda mark: mark.size, default=None)
    mark = read_anchor(Path(anchor))
    if mark is None:
        msg = f"there is no anchor at {anchor}"
        raise ReceiptError(msg)
    return mark


def _keep(path: Path) -> None:
    """Keep the last mark of the old log beside the file that gets the new one's. It is evidence."""
    mark = read_anchor(path)
    if mark is not None:
        path.with_name(f"{path.name}.{mark.log}").write_text(mark.text() + "\n", encoding="utf-8")
