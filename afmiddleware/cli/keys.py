"""`afmiddleware keys`: API keys of accounts."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from msgspec.structs import replace

from afmiddleware.anchoring import open_for_changes
from afmiddleware.authenticators import key_prefix
from afmiddleware.cli import signing
from afmiddleware.cli.common import (
    Group,
    echo_json,
    json_option,
    ledger_at,
    none_found,
    policy_at,
    policy_option,
    time_of,
    who,
)
from afmiddleware.config.identity_schema import ApiKeys
from afmiddleware.fence import system_clock
from afmiddleware.grammar.durations import parse_duration
from afmiddleware.identity.api_keys import ApiKeyRecord, check_record, imported_key
from afmiddleware.keys import Keys, NewKey, last_used
from afmiddleware.ledger.open import check_place, open_for_reading
from afmiddleware.pep.respond import instant

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from afmiddleware.config.schema import Config


@click.group("keys", cls=Group)
def keys_group() -> None:
    """API keys: made here, shown once; the ledger keeps only a digest."""


@keys_group.command("new")
@click.argument("account", default="")
@click.option("--receipts", is_flag=True, help="Make the key that signs the receipt log instead.")
@click.option("--label", default="", help="A note on what the key is for.")
@click.option("--scope", "scopes", multiple=True, help="A scope the key carries; may be given again.")
@click.option("--role", "roles", multiple=True, help="A role the key carries; may be given again.")
@click.option("--tenant", default="", help="The tenant the account belongs to.")
@click.option("--agent", default="", help="The name of the agent the key is given to.")
@click.option("--expires", default="", metavar="TIME", help="How long it is good (30d), or until when (2027-01-31).")
@click.option("--begins", default="", metavar="TIME", help="When it begins to be good, likewise.")
@click.option("--from", "networks", multiple=True, metavar="NETWORK", help="Where it may come from: 10.0.0.0/8.")
@policy_option
@json_option
def new_command(  # noqa: PLR0913 (options)
    account: str,
    scopes: tuple[str, ...],
    roles: tuple[str, ...],
    networks: tuple[str, ...],
    expires: str,
    begins: str,
    policy: str,
    *,
    receipts: bool,
    as_json: bool,
    **texts: Any,
) -> None:
    """Make a key for ACCOUNT and show it. It cannot be shown again."""
    if receipts:
        signing.make(policy, as_json=as_json)
        return
    ends, starts = moment(expires, "--expires"), moment(begins, "--begins")
    # Before the ledger is opened, which would make one.
    _check({"account": account, "scopes": scopes, "roles": roles, "networks": networks, **texts})
    with _keys(*policy_at(policy)) as keys:
        made = keys.create(
            account, scopes=scopes, roles=roles, networks=networks, expires=ends, begins=starts, by=who(), **texts
        )
    _show(made, as_json=as_json)


@keys_group.command("rotate")
@click.argument("key_id", default="")
@click.option("--receipts", is_flag=True, help="Rotate the key that signs the receipt log instead.")
@click.option("--overlap", default="24h", show_default=True, help="How long the old key stays good: 0s, 90m, 7d.")
@policy_option
@json_option
def rotate_command(key_id: str, overlap: str, policy: str, *, receipts: bool, as_json: bool) -> None:
    """Make the key that takes the place of KEY_ID and show it. Limits and spend go on: they are the account's.

    With --receipts, replace the key that signs the receipt log; the old one signs the record of it.
    """
    if receipts:
        signing.rotate(policy, as_json=as_json)
        return
    if not key_id:
        raise click.UsageError("write the id of a key, or --receipts")
    try:
        kept = timedelta(seconds=0 if overlap in ("0", "0s") else parse_duration(overlap))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from None
    with _keys(*policy_at(policy)) as keys:
        try:
            made = keys.rotate(_id(key_id), overlap=kept, by=who())
        except KeyError:
            _none(key_id)
        except ValueError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
    _show(made, as_json=as_json)
    if not as_json:
        click.echo(f"Key {_id(key_id)} stays good for {overlap}.", err=True)


@keys_group.command("import")
@click.argument("account")
@click.option("--sha256", "digest", required=True, help="The SHA-256 of the key's text, 64 hexadecimal digits.")
@click.option("--label", default="", help="A note on what the key is for.")
@click.option("--scope", "scopes", multiple=True, help="A scope the key carries; may be given again.")
@policy_option
@json_option
def import_command(  # noqa: PLR0913 (options)
    account: str, digest: str, label: str, scopes: tuple[str, ...], policy: str, *, as_json: bool
) -> None:
    """Take over a key of another make for ACCOUNT by its digest, so that its holder can keep it.

    The policy has to say `api_keys: {imported: true}`.
    """
    _check({"account": account, "scopes": scopes, "label": label})
    try:
        data = bytes.fromhex(digest)
        imported_key(data, account, now=0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sha256") from None
    with _keys(*policy_at(policy)) as keys:
        record = keys.import_digest(data, account, label=label, scopes=scopes, by=who())
    echo_json(_told(record)) if as_json else click.echo(f"Key {record.id} of account {account} is imported.")


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
    """List the keys: ids, states, when they were made and last used, until when they are good, and accounts."""
    config, base = policy_at(policy)
    check_place(config, base)
    with closing(open_for_reading(config, base)) as ledger:
        records = ledger.api_keys()
        used = last_used(ledger, [record.id for record in records])
    if as_json:
        echo_json([{**_told(record), "last_used": _instant(used.get(record.id))} for record in records])
        return
    none_found(records, "no key was made yet; make one with: afmiddleware keys new ACCOUNT")
    width = len("until 2026-11-21T12:00:00Z  ") if any(one.expires and not one.revoked for one in records) else 0
    for record in records:
        state, seen = _state(record), used.get(record.id)
        last = f"used {seen:%Y-%m-%d}" if seen is not None else "never used"
        ends = f"until {instant(record.expires)}" if record.expires and not record.revoked else ""
        whose = f"{ends:{width}}{record.account}  {record.label}"
        click.echo(f"{record.id}  {state:8}  {_date(record.created)}  {last:15}  {whose}".rstrip())


@keys_group.command("revoke")
@click.argument("key_id")
@policy_option
@json_option
def revoke_command(key_id: str, policy: str, *, as_json: bool) -> None:
    """Revoke the key with this id (or the key itself). Exit 1 when there is none."""
    config, base, _ = ledger_at(policy)
    with _keys(config, base) as keys:
        try:
            record = keys.revoke(_id(key_id), by=who())
        except KeyError:
            _none(key_id)
    if as_json:
        echo_json(_told(record))
        return
    said = config.identity.api_keys or ApiKeys()
    told = f"Key {_id(key_id)} of account {record.account} is revoked"
    click.echo(f"{told}; running processes refuse it within {said.cache_s} seconds.")


def moment(text: str, option: str) -> datetime | None:
    """When something is to be: a duration from now (`30d`), or a date or time (ISO 8601, UTC unless it says)."""
    if not text:
        return None
    try:
        if text[:1].isdigit() and "-" not in text:
            return datetime.now(UTC) + timedelta(seconds=parse_duration(text))
        return time_of(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write 30d, or 2027-01-31T12:00:00Z", param_hint=option) from None


_ANY: Final = ApiKeyRecord(id="", digest=b"", account="any")
_OPTIONS: Final = {"account": "ACCOUNT", "scopes": "--scope", "roles": "--role", "networks": "--from"}


def _check(members: dict[str, Any]) -> None:
    """Say which argument holds what cannot stand in a record."""
    for name, member in members.items():
        try:
            check_record(replace(_ANY, **{name: member}))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=_OPTIONS.get(name, f"--{name}")) from None


@contextmanager
def _keys(config: Config, base: Path) -> Generator[Keys]:
    ledger = open_for_changes(config, base, system_clock)
    try:
        yield Keys(ledger, system_clock, prefix=key_prefix(config.identity))
    finally:
        ledger.close()


def _id(key: str) -> str:
    """The id in a whole key that was pasted."""
    return key.split("_")[2] if key.count("_") == 3 else key  # noqa: PLR2004 (its parts)


def _none(key: str) -> NoReturn:
    # No longer than an id, for what was pasted may be a part of a key.
    click.echo(f"there is no key {_id(key)[:10]}", err=True)
    sys.exit(1)


def _show(made: NewKey, *, as_json: bool) -> None:
    record = made.record
    if as_json:
        echo_json({"key": made.text, "id": record.id, "account": record.account, "scopes": record.scopes})
        return
    click.echo(made.text)
    click.echo(f"Key {record.id} of account {record.account}. This is the only time it is shown.", err=True)


def _told(record: ApiKeyRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "account": record.account,
        "label": record.label,
        "scopes": record.scopes,
        "created": record.created,
        "revoked": record.revoked,
        "begins": record.begins,
        "expires": record.expires,
        "roles": record.roles,
        "tenant": record.tenant,
        "agent": record.agent,
        "networks": record.networks,
        "rotated_to": record.rotated_to,
        "state": _state(record),
    }


def _state(record: ApiKeyRecord) -> str:
    now = system_clock()
    if record.revoked:
        return "revoked"
    if record.expires and record.expires <= now:
        return "expired"
    return "waiting" if record.begins > now else "rotated" if record.rotated_to else "active"


def _instant(at: datetime | None) -> int:
    """In microseconds since the epoch, as the other times here; 0 for never."""
    return round(at.timestamp() * 1_000_000) if at is not None else 0


def _date(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d")
