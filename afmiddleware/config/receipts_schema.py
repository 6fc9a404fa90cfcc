"""What fence.yaml may say of receipts: what they keep, what they are authenticated with, where the log is anchored."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretBytes, model_validator

from afmiddleware.config.mapped import Model
from afmiddleware.config.texts import Boolean, Checked, Seconds, Text, Word, check_url, list_of, one_of, some_of
from afmiddleware.grammar.quoting import quoted
from afmiddleware.model.receipt import PRIVATE


def check_path(path: str) -> None:
    """Raises `ValueError` for anything but a private member's name, or a path into the payload."""
    steps = path.split(".")
    if path in PRIVATE or (steps[0] == "payload" and all(steps)):
        return
    known = ", ".join(sorted(PRIVATE))
    msg = f"{quoted(path)} is nothing receipts keep; write payload.<path>, * for any one step in it, or one of {known}"
    raise ValueError(msg)


class MacKey(Model):
    """The secret that authenticates receipts: a file that holds it, or the bytes themselves, read by the loader."""

    file: Text | None = None
    secret: Annotated[SecretBytes | None, Field(exclude=True)] = None


class SigningEntry(Model):
    """The private key that signs checkpoints: a file that holds it, or its text, read by the loader."""

    file: Text | None = None
    secret: Annotated[SecretBytes | None, Field(exclude=True)] = None


class TokenEntry(Model):
    """A bearer token: a file that holds it, or its text, read by the loader."""

    file: Text | None = None
    secret: Annotated[SecretBytes | None, Field(exclude=True)] = None


Command = Annotated[tuple[Text, ...], BeforeValidator(some_of), Field(min_length=1)]
"""A program and its arguments; no shell reads them."""


class AnchorEntry(Model):
    """Where the mark of the log goes, at most once in `every` seconds.

    A `file`, the standard input of a `command`, a `url` (POST); `log` writes it as a log line, `stdout` as a line of
    JSON. `read_command` prints, and `read_url` answers, the last mark: what can be read, the file among it, is compared
    with the ledger at each start. With `required` nothing is admitted while a mark has waited longer than `patience`
    seconds for one of its places.
    """

    file: Text | None = None
    log: Boolean = False
    stdout: Boolean = False
    command: Command | None = None
    read_command: Command | None = None
    url: Annotated[Word, Checked(check_url)] | None = None
    read_url: Annotated[Word, Checked(check_url)] | None = None
    token: TokenEntry | None = None
    allow_private: Boolean = False
    every: Seconds = 10
    required: Boolean = False
    patience: Seconds = 60

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.file or self.log or self.stdout or self.command or self.url):
            msg = "no place for the mark is named; add file, command, url, log or stdout"
            raise ValueError(msg)
        return self


class Receipts(Model):
    """What receipts keep of a request, and what they are authenticated with."""

    payload: Annotated[Word, one_of("none", "hash", "fields", "full")] = "fields"
    redact: Annotated[tuple[Annotated[Word, Checked(check_path)], ...], BeforeValidator(list_of)] = ()
    mac_key: MacKey | None = None
    signing_key: SigningEntry | None = None
    anchor: AnchorEntry | None = None
