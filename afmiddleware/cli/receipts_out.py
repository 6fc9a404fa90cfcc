"""`afmiddleware receipts`: take receipts out of the ledger, values out of receipts, and count them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import click

from afmiddleware.cli.common import echo_json, json_option, known_as, many, policy_at, policy_option
from afmiddleware.fence import system_clock
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.open import keys_for_reading, open_for_reading, open_for_tools
from afmiddleware.model.entry import Record
from afmiddleware.receipts import standalone
from afmiddleware.receipts.bundle import to_json
from afmiddleware.receipts.notary import redaction

if TYPE_CHECKING:
    from afmiddleware.receipts.verify import StoredReceipt

_AT_ONCE = 500


@click.command("export")
@policy_option
@click.option("--owner", default="", callback=known_as, help="Only the receipts of this caller, such as key:acct_42.")
@click.option("--output", type=click.Path(dir_okay=False), default="-", show_default=True, help="Where to write.")
def export_command(policy: str, owner: str, output: str) -> None:
    """Write a bundle of JSON lines that anybody verifies with a public key: the whole log, or one caller's receipts.

    Exit 1 when there are none of that caller.
    """
    config, base = policy_at(policy)
    with closing(open_for_reading(config, base)) as ledger:
        log = ReceiptLog(ledger, keys_for_reading(config, base))
        if owner and next(log.find(actor=owner), None) is None:
            click.echo(f"the log has no receipt of {owner}; nothing was written", err=True)
            sys.exit(1)
        last = b""
        with click.open_file(output, "wb") as file:
            for last in log.export(log.pseudonym(owner) if owner else ""):
                file.write(last)
    if output != "-":
        click.echo(f"{many(json.loads(last)['end'], 'receipt')} written to {output}", err=True)


@click.command("prove")
@click.argument("which")
@policy_option
def prove_command(which: str, policy: str) -> None:
    """Print the proof of a decision's receipts, or of the one with this number. Exit 1 when there is none."""
    with closing(open_for_reading(*policy_at(policy))) as ledger:
        log = ReceiptLog(ledger)
        found = _chosen(log, which)
        if not found:
            click.echo(f"there is no receipt {which}", err=True)
            sys.exit(1)
        click.echo(to_json(log.prove(found)))


@click.command("check")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="The log's keys, as `afmiddleware keys public` prints them; may be given again.",
)
def check_command(bundle: str, public_keys: tuple[str, ...]) -> None:
    """Verify a proof or an export without any ledger: whole (0), tampered (3), unreadable or by nobody known (5)."""
    arguments = [bundle]
    for place in public_keys:
        arguments += ["--public-key", place]
    sys.exit(standalone.main(arguments))


@click.command("redact")
@click.argument("which", nargs=-1, required=True)
@policy_option
@click.option("--field", "fields", multiple=True, required=True, help="Which private value; may be given again.")
@click.option("--reason", required=True, help="Why, as a short code such as gdpr.erasure.")
@click.option("--by", required=True, help="Who asked for it. It stands in the log for good.")
@json_option
def redact_command(  # noqa: PLR0913 (options)
    which: tuple[str, ...],
    policy: str,
    fields: tuple[str, ...],
    reason: str,
    by: str,
    *,
    as_json: bool,
) -> None:
    """Delete private values for good, of decisions or sequence numbers, and record that. The chain stays whole."""
    with closing(open_for_tools(*policy_at(policy), clock=system_clock)) as ledger:
        log = ReceiptLog(ledger)
        found = [one for text in which for one in _chosen(log, text)]
        seqs = sorted({one.receipt.seq for one in found if not set(fields).isdisjoint(one.receipt.disclosed)})
        for start in range(0, len(seqs), _AT_ONCE):
            part = seqs[start : start + _AT_ONCE]
            draft = redaction(fields, part, reason, by)
            ledger.commit(Record(draft, erase=tuple(fields), erase_in=tuple(part)))
    named, these = ", ".join(fields), ", ".join(which)
    if as_json:
        echo_json({"redacted": seqs, "fields": fields})
    elif not found:
        click.echo(f"nothing was deleted: there is no receipt {these}", err=True)
    elif not seqs:
        click.echo(f"nothing was deleted: no value {named} is kept of {these}", err=True)
    else:
        said = "backups and copies are not reached from here"
        click.echo(f"{named} of {many(len(seqs), 'receipt')} deleted; {said}.")
    sys.exit(0 if seqs else 1)


@click.command("stats")
@policy_option
@json_option
def stats_command(policy: str, *, as_json: bool) -> None:
    """Count the receipts by kind, verdict and reason code."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("kind", "verdict", "code", "capability")}
    with closing(open_for_reading(*policy_at(policy))) as ledger:
        head = ledger.head()
        for one in ledger.receipts(Filter()):
            for name, counter in counts.items():
                if one.columns[name]:
                    counter[str(one.columns[name])] += 1
        signed = len(ledger.signing_keys())
    if as_json:
        echo_json({"log": head.log, "size": head.size, "keys": signed, **counts})
        return
    click.echo(f"log {head.log}: {many(head.size, 'receipt')}, {many(signed, 'signing key')}")
    for name, counter in counts.items():
        for value, count in counter.most_common():
            click.echo(f"  {name:10}  {count:>9}  {value}")


def _chosen(log: ReceiptLog, which: str) -> list[StoredReceipt]:
    if which.isascii() and which.isdecimal() and len(which) < 16:  # noqa: PLR2004 (a decision id has 32 digits)
        one = log.at(int(which))
        return [one] if one is not None else []
    return log.decision(which.removeprefix("urn:afm:decision:"))
