"""`afmiddleware receipts`: read the log, and check it."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from afmiddleware.anchoring import anchors_of
from afmiddleware.cli.common import (
    Group,
    echo_json,
    json_option,
    known_as,
    many,
    none_found,
    policy_at,
    policy_option,
    time_of,
)
from afmiddleware.cli.receipt_text import about, lines, money, shown
from afmiddleware.cli.receipts_anchor import anchor_command
from afmiddleware.cli.receipts_epoch import epoch_command
from afmiddleware.cli.receipts_import import import_command
from afmiddleware.cli.receipts_out import (
    check_command,
    export_command,
    prove_command,
    redact_command,
    stats_command,
)
from afmiddleware.errors import AFError, ConfigError, ReceiptError
from afmiddleware.fence import system_clock
from afmiddleware.ledger.anchor import GO_ON
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.open import keys_for_reading, open_for_reading
from afmiddleware.ledger.verification import verify_ledger
from afmiddleware.model.money import Money
from afmiddleware.model.receipt import KINDS
from afmiddleware.receipts.bundle import read_had
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.checkpoint import read_publics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from afmiddleware.receipts.seals import Had
    from afmiddleware.receipts.verify import Report, StoredReceipt

_UNREADABLE = 5
_COUNTED = (
    "has no receipt of its own: it was refused to a caller without a good credential,\n"
    "and such refusals are counted together, in aggregate record"
)
_SOON = (
    " yet: if it was refused to a caller without a good credential, it is counted within half a minute; look again then"
)
_ADVICE = {
    "unanchored": (
        "exit 4: to have a cut tail found, keep a mark outside the database (receipts: {anchor: {file: ...}});\n"
        "        to do without it, say --anchor none"
    ),
    "unauthenticated": ("exit 5: put the log's key file back, or name the public key that you know with --public-key"),
}
_TIMES = "2026-11-21, or 2026-11-21T12:00:00Z"
_HEADING = f"{'seq':>7}  {'time (UTC)':19}  {'kind':9}  {'verdict':7}  {'capability':24}  {'amount':>12}  code"


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    """A time as `show` writes it, or a date; UTC unless it says. Raises `BadParameter`."""
    if text is None:
        return None
    try:
        return time_of(text)
    except ValueError:
        msg = f"{text[:40]!r} is no time; write {_TIMES}"
        raise click.BadParameter(msg) from None


@click.group("receipts", cls=Group)
def receipts_group() -> None:
    """The receipt log: list it, show one receipt, verify all of them."""


@receipts_group.command("list")
@policy_option
@json_option
@click.option("--kind", type=click.Choice(KINDS), help="Only intent, refusal, outcome, aggregate ...")
@click.option("--capability", default="", help="Only this capability.")
@click.option("--verdict", type=click.Choice(["allow", "refuse"]), help="Only allow or refuse.")
@click.option("--actor", default="", callback=known_as, help="Only those of this caller, such as key:acct_42.")
@click.option("--since", metavar="TIME", callback=_moment, help=f"Only from this time on: {_TIMES}.")
@click.option("--until", metavar="TIME", callback=_moment, help=f"Only before this time: {_TIMES}.")
@click.option("--amount", default="", help="Only of at least this much, such as '20 USD'.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last N of the log.")
def list_command(  # noqa: PLR0913 (options)
    policy: str,
    kind: str | None,
    capability: str,
    verdict: str | None,
    actor: str,
    since: datetime | None,
    until: datetime | None,
    amount: str,
    last: int | None,
    *,
    as_json: bool,
) -> None:
    """List receipts in the order of the log. As JSON, one receipt a line."""
    config, base = policy_at(policy)
    least = Money.parse(amount, config.exponents) if amount else None
    found = 0
    with closing(open_for_reading(config, base)) as ledger:
        owner = ReceiptLog(ledger, keys_for_reading(config, base)).pseudonym(actor) if actor else ""
        after = max(ledger.head().size - last, 0) if last else 0
        wanted = Filter(kind=kind or "", capability=capability, verdict=verdict or "", after=after)
        if not as_json:
            click.echo(_HEADING)
        for stored in ledger.receipts(wanted):
            body = strict_parse(stored.receipt.body)
            if (owner and body["owner"] != owner) or not _within(int(stored.columns["ts"]), since, until):
                continue
            if least is not None and (body.get("currency") != least.currency or _minor(body) < least.minor):
                continue
            found += 1
            click.echo(msgspec.json.encode(_told(stored, body)) if as_json else _line(stored, body))
        if not as_json:
            none_found(range(found), f"none of the log's {many(ledger.head().size, 'receipt')} is like that")


@receipts_group.command("show")
@click.argument("which")
@policy_option
@json_option
def show_command(which: str, policy: str, *, as_json: bool) -> None:
    """Show the receipts of one decision id, or the one with this sequence number. Exit 1 when there is none.

    A refusal of a caller without a good credential has no receipt of its own: the record that counts it is shown.
    """
    counted: list[StoredReceipt] = []
    soon = False
    with closing(open_for_reading(*policy_at(policy))) as ledger:
        if which.isascii() and which.isdecimal() and len(which) < 16:  # noqa: PLR2004 (a decision id has 32 digits)
            found = _first(ledger.receipts(Filter(after=int(which) - 1)), int(which))
        else:
            decision = which.removeprefix("urn:afm:decision:")
            # An empty filter would find everything.
            found = list(ledger.receipts(Filter(decision=decision))) if decision else []
            if not found:
                log = ReceiptLog(ledger)
                found = counted = log.counted(decision)
                soon = log.is_counted_soon(decision, system_clock())
    if not found:
        click.echo(f"there is no receipt {which}" + (_SOON if soon else ""), err=True)
        sys.exit(1)
    shown = [(stored, strict_parse(stored.receipt.body)) for stored in found]
    if as_json:
        echo_json([_told(stored, body) for stored, body in shown])
        return
    if counted:
        named = ", ".join(str(one.receipt.seq) for one in counted)
        click.echo(f"{which} {_COUNTED} {named}")
    for stored, body in shown:
        for line in lines(stored, body):
            click.echo(line)


@receipts_group.command("verify")
@policy_option
@json_option
@click.option(
    "--anchor",
    type=click.Path(dir_okay=False),
    help="The anchor file, when it is not the policy's; `none` to do without.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="A file with a public key the log must be signed by; may be given again.",
)
@click.option(
    "--have",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="A file with an Agent-Receipt header or a proof that was given out; may be given again.",
)
def verify_command(
    policy: str, anchor: str | None, public_keys: tuple[str, ...], have: tuple[str, ...], *, as_json: bool
) -> None:
    """Check every receipt: whole (0), tampered (3), tail unanchored (4), or unreadable (5).

    Without an anchor nobody can tell whether the end of the log was cut off: that is 4, unless you accept it with
    `--anchor none`. Without the log's key and without a --public-key nobody can tell who wrote it: that is 5.
    """
    try:
        trusted = tuple(key for place in public_keys for key in read_publics(_text(place)))
        had = [one for place in have for one in read_had(_text(place))]
        if as_json or not sys.stderr.isatty():
            report = verify_policy(policy, anchor, trusted=trusted, had=had)
        else:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task("verifying", total=None)
                report = verify_policy(
                    policy,
                    anchor,
                    lambda done, size: progress.update(task, completed=done, total=size),
                    trusted=trusted,
                    had=had,
                )
    except ConfigError:
        # A policy that cannot be read says nothing of the log.
        raise
    except AFError as error:
        if as_json:
            echo_json({"status": "unreadable", "reason": str(error)})
        else:
            click.echo(f"unreadable: {error}", err=True)
        sys.exit(_UNREADABLE)
    if as_json:
        echo_json(report)
    else:
        for line in report.lines():
            click.echo(line)
        if report.status in _ADVICE:
            click.echo(_ADVICE[report.status], err=True)
        if report.code.startswith("anchor."):
            click.echo(f"exit 3: if the log was lost, restore its newest copy; {GO_ON}", err=True)
    sys.exit(report.exit_code)


for _command in (
    import_command,
    epoch_command,
    anchor_command,
    export_command,
    prove_command,
    check_command,
    redact_command,
    stats_command,
):
    receipts_group.add_command(_command)


def verify_policy(
    policy: str,
    anchor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    trusted: tuple[bytes, ...] = (),
    had: Sequence[Had] = (),
) -> Report:
    """Verify the log of a policy's ledger against its key and its anchor. Raises `AFError` when it cannot be read."""
    config, base = policy_at(policy)
    anchors = anchors_of(config.receipts, base)
    return verify_ledger(config, base, anchor, progress, trusted=trusted, had=had, anchors=anchors)


def _text(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{place} cannot be read: {error}"
        raise ReceiptError(msg) from error


def _line(stored: StoredReceipt, body: dict[str, Any]) -> str:
    columns = stored.columns
    line = (
        f"{stored.receipt.seq:>7}  {_time(int(columns['ts'])):19}  {columns['kind']:9}  {columns['verdict']:7}  "
        f"{columns['capability'] or shown(str(body.get('route', ''))):24}  {_amount(body):>12}  "
        f"{columns['code'] or about(body)}"
        f"{', observed' if body.get('mode') == 'observe' and columns['verdict'] == 'refuse' else ''}"
    )
    return line.rstrip()


def _told(stored: StoredReceipt, body: dict[str, Any]) -> dict[str, Any]:
    """A receipt for a reader: what its body says, with the values behind its commitments."""
    told = {name: value for name, value in body.items() if name != "c"}
    for name, (_, value) in sorted(stored.receipt.disclosed.items()):
        if value is not None:
            told[name] = value
    told["leaf"] = stored.receipt.leaf.hex()
    return told


def _within(ts: int, since: datetime | None, until: datetime | None) -> bool:
    at = datetime.fromtimestamp(ts // 1_000_000, UTC) + timedelta(microseconds=ts % 1_000_000)
    return (since is None or at >= since) and (until is None or at < until)


def _minor(body: dict[str, Any]) -> int:
    return int(body.get("refunded") or body.get("amount") or body.get("captured") or 0)


def _amount(body: dict[str, Any]) -> str:
    return money(str(_minor(body)), body) if body.get("currency") else ""


def _time(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _first(found: Iterator[StoredReceipt], seq: int) -> list[StoredReceipt]:
    one = next(found, None)
    return [one] if one is not None and one.receipt.seq == seq else []
