"""The key that signs the receipt log: made, shown, rotated."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import click

from afmiddleware.cli.common import echo_json, policy_at
from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.fence import system_clock
from afmiddleware.ledger.open import open_for_reading, open_for_tools, signing_file
from afmiddleware.ledger.receipt_key import appoint, next_of, read_signing_key, write_signing_key
from afmiddleware.ledger.sqlite_file import Queue
from afmiddleware.model.entry import Record
from afmiddleware.receipts.checkpoint import jwk, key_name, verifier_key
from afmiddleware.receipts.notary import rotation

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_WAITS: Final = 30.0
"""How long a rotation waits for another, in seconds."""


def make(policy: str, *, as_json: bool) -> None:
    """Make the key where the policy says, only its owner may read it. Never over one that is there."""
    config, base = policy_at(policy)
    place = signing_file(config, base)
    if place.exists():
        msg = f"there is a signing key at {place} already; replace it with: afmiddleware keys rotate --receipts"
        raise ReceiptError(msg)
    try:
        with closing(open_for_reading(config, base)) as ledger:
            signed = bool(ledger.signing_keys())
    except ReceiptError:
        signed = False  # there is no log yet
    if signed:
        msg = f"the log is signed already, by a key that belongs at {place}: restore that one"
        raise ReceiptError(msg)
    public = write_signing_key(place).public
    _tell(place, public, as_json=as_json)


def rotate(policy: str, *, as_json: bool) -> None:
    """Put a new key in the place of the old one. The old key signs the record of it; running processes follow."""
    config, base = policy_at(policy)
    if config.receipts.signing_key is not None and config.receipts.signing_key.secret is not None:
        msg = "the signing key comes from the environment: rotate it where it is kept, with Fence(signer=...)"
        raise ReceiptError(msg)
    place = signing_file(config, base)
    read_signing_key(place)
    with _alone(place), closing(open_for_tools(config, base, clock=system_clock)) as ledger:
        old, fresh = read_signing_key(place), next_of(place)
        # What a rotation that was broken off has appointed is in its place since the ledger was opened.
        fresh.unlink(missing_ok=True)
        new = write_signing_key(fresh)
        draft, proof = rotation(ledger.head().log, old, new.public)
        ledger.commit(Record(draft, new_key=new.public, proof=proof))
        appoint(place, new.public)
    _tell(place, new.public, as_json=as_json)
    if not as_json:
        click.echo("Whoever verifies needs the older ones too; all are told by: afmiddleware keys public", err=True)


@contextmanager
def _alone(place: Path) -> Generator[None]:
    """Wait until nobody else rotates the key in a file: two who did would lose the key that the log appoints."""
    with closing(Queue(place)) as queue:
        try:
            with queue.turn(_WAITS):
                yield
        except TimeoutError as error:
            msg = f"the signing key {place} is being rotated by somebody else, who does not come to an end"
            raise LedgerUnavailableError(msg) from error


def show(policy: str, *, as_json: bool) -> None:
    """The public keys of the log, for whoever verifies it."""
    with closing(open_for_reading(*policy_at(policy))) as ledger:
        log, keys = ledger.head().log, ledger.signing_keys()
    if not keys:
        click.echo("the log is not signed; make a key with: afmiddleware keys new --receipts", err=True)
        sys.exit(1)
    if as_json:
        echo_json({"keys": [jwk(key.public) for key in keys]})
        return
    for key in keys:
        click.echo(verifier_key(log, key.public))


def _tell(place: Path, public: bytes, *, as_json: bool) -> None:
    if as_json:
        echo_json({"file": str(place), "key": key_name(public), "public": public.hex()})
        return
    click.echo(f"Signing key {key_name(public)} in {place}, for its owner's eyes only. Its public half:")
    click.echo(public.hex())
