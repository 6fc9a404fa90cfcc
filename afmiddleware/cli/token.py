"""`afmiddleware token`: tokens for development, what the policy makes of one, and taking tokens back."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from afmiddleware.anchoring import open_for_changes
from afmiddleware.assemble import assemble
from afmiddleware.callers import identify
from afmiddleware.cli.common import Group, echo_json, json_option, policy_at, policy_option, who
from afmiddleware.cli.dev_issuer import dev_issuer, issuer_at
from afmiddleware.drivers import run
from afmiddleware.errors import IdentityUnavailableError, ReceiptError
from afmiddleware.fence import system_clock
from afmiddleware.grammar.durations import parse_duration
from afmiddleware.identity.jose import BadCredentialError, read_compact
from afmiddleware.identity.needs import NeedIntrospection, NeedKey, NeedKeySet, NeedOnce, NoteUse
from afmiddleware.identity.outcome import Invalid, Ok
from afmiddleware.ledger.open import open_for_reading
from afmiddleware.ledger.orders import taking_back
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.revocation import ANY_TIME, Revocation

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware.effects import Io
    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.ledger.base import Reader
    from afmiddleware.lookups.jwks import KeySources

_SECOND = 1_000_000
_STDIN = "-"


@click.group("token", cls=Group)
def token_group() -> None:
    """Tokens: made for development, looked at, and taken back."""


@token_group.command("mint")
@click.option("--issuer", default="", help="Which issuer of the policy; needed where several have a jwks_file.")
@click.option("--sub", default="agent-1", show_default=True, help="The subject.")
@click.option("--scope", "scopes", multiple=True, help="A scope; may be given again.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=JSON", help="Another claim, as JSON or as plain text.")
@click.option("--life", default="5m", show_default=True, help="How long it is good: 90s, 5m, 1h.")
@policy_option
@json_option
def mint_command(  # noqa: PLR0913 (options)
    issuer: str,
    sub: str,
    scopes: tuple[str, ...],
    claims: tuple[str, ...],
    life: str,
    policy: str,
    *,
    as_json: bool,
) -> None:
    """Make a token of an issuer whose keys are in a jwks_file, for trying things out.

    The first time, a key is made: the public part becomes the jwks_file, the private one stands beside it, readable by
    you alone. No token can be made for an issuer whose keys are fetched.
    """
    config, base = policy_at(policy)
    told = dict(_claim(one) for one in claims)
    try:
        seconds = parse_duration(life)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--life") from None
    try:
        signer = dev_issuer(config, base, issuer)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if scopes:
        told["scope"] = " ".join(scopes)
    text = signer.mint(sub, seconds, told, system_clock() // _SECOND)
    if as_json:
        echo_json({"token": text, "issuer": signer.issuer, "sub": sub, "expires_in": seconds})
        return
    click.echo(text)


@token_group.command("inspect")
@click.argument("token", default=_STDIN)
@policy_option
@json_option
def inspect_command(token: str, policy: str, *, as_json: bool) -> None:
    """Show what a token or an API key says, and what the policy makes of it. Exit 1 when it is not good.

    It is read from standard input where no TOKEN is given, so that it need not stand in the shell's history. Keys and
    the ledger are looked up as for a request; nothing is charged or recorded.
    """
    config, base = policy_at(policy)
    text = (sys.stdin.readline() if token == _STDIN else token).strip().removeprefix("Bearer ")
    said: dict[str, Any] = {}
    # Of an API key or an opaque token nothing can be read.
    with suppress(BadCredentialError):
        said["header"], said["claims"] = read_compact(text)
    found = _identified(config, base, text)
    if isinstance(found, Ok):
        said |= {"good": True, "actor": _told(found)}
    else:
        said |= {"good": False, "reason": found.detail if isinstance(found, Invalid) else str(found)}
    if as_json:
        echo_json(said)
    else:
        _print(said)
    sys.exit(0 if said["good"] else 1)


@token_group.command("revoke")
@click.option("--issuer", default="", help="Which issuer of the policy; needed where it has several.")
@click.option("--jti", default="", help="One token, by its id.")
@click.option("--sub", default="", help="All tokens of a subject that are issued by now.")
@click.option("--client", default="", help="All tokens of a client that are issued by now.")
@click.option("--kid", default="", help="All tokens signed with a key.")
@click.option("--reason", default="", help="Why, for the record.")
@policy_option
@json_option
def revoke_command(
    issuer: str,
    reason: str,
    policy: str,
    *,
    as_json: bool,
    **named: str,
) -> None:
    """Take tokens back before their end: one of --jti, --sub, --client, --kid. It is recorded."""
    chosen = [(kind, name) for kind, name in named.items() if name]
    if len(chosen) != 1:
        raise click.UsageError("write one of --jti, --sub, --client, --kid")
    kind, name = chosen[0]
    config, base = policy_at(policy)
    try:
        entry = issuer_at(config, issuer)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    now = system_clock()
    # Nothing that is issued by now lives longer than this.
    until = now + (entry.max_lifetime_s + 2 * entry.leeway_s) * _SECOND
    before = now if kind in ("sub", "client") else ANY_TIME
    gone = Revocation(
        kind=kind, issuer=entry.issuer, name=name, before=before, until=ANY_TIME if kind == "kid" else until
    )
    ledger = open_for_changes(config, base, system_clock)
    try:
        ledger.commit(taking_back(gone, who(), reason))
    finally:
        ledger.close()
    if as_json:
        echo_json({"kind": kind, "name": name, "issuer": entry.issuer, "before": before, "until": gone.until})
        return
    click.echo(f"Tokens with this {kind} are refused from now on; running processes know within 10 seconds.")


@token_group.command("revocations")
@policy_option
@json_option
def revocations_command(policy: str, *, as_json: bool) -> None:
    """List what was taken back and has not ended since."""
    config, base = policy_at(policy)
    ledger = open_for_reading(config, base)
    try:
        entries = [one for one in ledger.revocations() if one.until >= system_clock()]
    finally:
        ledger.close()
    if as_json:
        echo_json(entries)
        return
    for one in entries:
        click.echo(f"{one.kind:7} {one.name}  {one.issuer}")


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        msg = f"{text[:40]!r} is not a claim; write NAME=JSON"
        raise click.BadParameter(msg, param_hint="--claim")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _identified(config: Config, base: Path, text: str) -> Identified:
    """What the policy makes of a credential."""
    plan, keys = assemble(config, base)
    header = (b"authorization", f"Bearer {text}".encode("utf-8", "surrogateescape"))
    facts = HttpFacts(method="GET", path="/", headers=[header])
    ledger: Reader | None = None
    # Where none was made yet, no key and no revocation is in it.
    with suppress(ReceiptError):
        ledger = open_for_reading(config, base)
    try:
        return run(identify(plan, facts, system_clock()), cast("Io", _Looks(keys, ledger)))
    finally:
        keys.close()
        if ledger is not None:
            ledger.close()


class _Looks:
    """Looks up what identity asks for, and changes nothing by it."""

    def __init__(self, keys: KeySources, ledger: Reader | None) -> None:
        self._keys = keys
        self._ledger = ledger

    def resolve(self, need: Need) -> Any:
        """What is there. Raises `IdentityUnavailableError`."""
        ledger = self._ledger
        if isinstance(need, NeedKeySet):
            return self._keys.wait(need)
        if isinstance(need, NeedIntrospection):
            msg = "it is an opaque token, which only its issuer can read"
            raise IdentityUnavailableError(msg)
        if isinstance(need, NeedOnce):
            return True
        if isinstance(need, NoteUse):
            return None
        if isinstance(need, NeedKey):
            return ledger.api_key(need.key_id) if ledger is not None else None
        return ledger.revocations() if ledger is not None else []


def _told(found: Ok) -> dict[str, Any]:
    actor = found.actor
    told = {name: getattr(actor, name) for name in actor.__struct_fields__}
    told |= {"tier": actor.tier.label, "scopes": sorted(actor.scopes), "roles": sorted(actor.roles)}
    return {name: value for name, value in told.items() if value}


def _print(said: dict[str, Any]) -> None:
    for part in ("header", "claims", "actor"):
        if part in said:
            click.echo(f"{part}:")
            for name, value in said[part].items():
                click.echo(f"  {name}: {value if isinstance(value, str) else msgspec.json.encode(value).decode()}")
    click.echo("good" if said["good"] else f"not good: {said['reason']}")
