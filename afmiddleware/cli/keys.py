"""`afmiddleware keys`: API keys of accounts."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime

import click
import msgspec

from afmiddleware.anchoring import open_for_changes
from afmiddleware.cli import signing
from afmiddleware.cli.common import echo_json, json_option, policy_at, policy_option, who
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import ApiKeyRecord, new_key
from afmiddleware.ledger.open import open_for_tools
from afmiddleware.ledger.orders import key_change


@click.group("keys")
def keys_group() -> None:
    """API keys: made here, shown once; the ledger keeps only a digest."""


@keys_group.command("new")
@click.argument("account", default="")
@click.option("--receipts", is_flag=True, help="Make the key that signs the receipt log instead.")
@click.option("--label", default="", help="A note on what the key is for.")
@click.option("--scope", "scopes", multiple=True, help="A scope the key carries; may be given again.")
@policy_option
@json_option
def new_command(  # noqa: PLR0913 (options)
    account: str,
    label: str,
    scopes: tuple[str, ...],
    policy: str,
    *,
    receipts: bool,
    as_json: bool,
) -> None:
    """Make a key for ACCOUNT and show it. It cannot be shown again."""
    if receipts:
        signing.make(policy, as_json=as_json)
        return
    try:
        text, record = new_key(account, secrets.token_bytes, now=system_clock(), label=label, scopes=scopes)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ACCOUNT") from None
    ledger = open_for_changes(*policy_at(policy), system_clock)
    try:
        ledger.commit(key_change("key.new", record, who()))
    finally:
        ledger.close()
    if as_json:
        echo_json({"key": text, "id": record.id, "account": account, "scopes": scopes})
        return
    click.echo(text)
    click.echo(f"Key {record.id} of account {account}. This is the only time it is shown.", err=True)


@keys_group.command("rotate")
@click.option("--receipts", is_flag=True, required=True, help="The key that signs the receipt log.")
@policy_option
@json_option
def rotate_command(policy: str, *, receipts: bool, as_json: bool) -> None:
    """Replace the key that signs the receipt log; the old one signs the record of it."""
    del receipts
    signing.rotate(policy, as_json=as_json)


@keys_group.command("public")
@policy_option
@json_option
def public_command(policy: str, *, as_json: bool) -> None:
    """Show the public keys of the receipt log, for whoever verifies it. Exit 1 when it is not signed."""
    signing.show(policy, as_json=as_json)


@keys_group.command("list")
@policy_option
@json_option
def list_command(policy: str, *, as_json: bool) -> None:
    """List the keys: ids, accounts and states, never the keys."""
    ledger = open_for_tools(*policy_at(policy))
    try:
        records = ledger.api_keys()
    finally:
        ledger.close()
    if as_json:
        echo_json([_told(record) for record in records])
        return
    for record in records:
        state = "revoked" if record.revoked else "active"
        click.echo(f"{record.id}  {state:8}  {_date(record.created)}  {record.account}  {record.label}".rstrip())


@keys_group.command("revoke")
@click.argument("key_id")
@policy_option
@json_option
def revoke_command(key_id: str, policy: str, *, as_json: bool) -> None:
    """Revoke the key with this id (or the key itself). Exit 1 when there is none."""
    ledger = open_for_changes(*policy_at(policy), system_clock)
    wanted = key_id.split("_")[2] if key_id.count("_") == 3 else key_id  # noqa: PLR2004 (a whole key was pasted)
    try:
        record = ledger.api_key(wanted)
        if record is None:
            # No longer than an id, for what was pasted may be a part of a key.
            click.echo(f"there is no key {wanted[:10]}", err=True)
            sys.exit(1)
        if not record.revoked:
            record = msgspec.structs.replace(record, revoked=system_clock())
            ledger.commit(key_change("key.revoke", record, who()))
    finally:
        ledger.close()
    if as_json:
        echo_json(_told(record))
        return
    click.echo(f"Key {wanted} of account {record.account} is revoked; running processes refuse it within 5 seconds.")


def _told(record: ApiKeyRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "account": record.account,
        "label": record.label,
        "scopes": record.scopes,
        "created": record.created,
        "revoked": record.revoked,
    }


def _date(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d")
