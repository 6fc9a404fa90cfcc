"""What looking at the credentials of a request can come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from afmiddleware.model.actor import Actor

if TYPE_CHECKING:
    from collections.abc import Callable


class Absent(msgspec.Struct, frozen=True):
    """There is no credential: the caller is anonymous. `flags` are marks for the record."""

    flags: tuple[str, ...] = ()


class Ok(msgspec.Struct, frozen=True):
    """The credential is good. `flags` are marks for the record.

    With `signs` it speaks for one body alone: the caller is this one only if the function says so of the bytes.
    """

    actor: Actor
    flags: tuple[str, ...] = ()
    signs: Callable[[bytes], bool] | None = None


class Invalid(msgspec.Struct, frozen=True):
    """A credential is there and is not good: the request is refused, never taken for anonymous.

    `detail` is for the log alone; telling it to the caller would help guessing. `code` is `identity.invalid`,
    `identity.proof`, `identity.nonce`, `session.invalid` or `request.ambiguous`. `foreign` is a credential of a kind
    that the policy does not know; `nonce` is what the caller has to put into its next proof. With `guess` it
    may have been made up, so that it is counted where it came from.
    """

    detail: str
    code: str = "identity.invalid"
    foreign: bool = False
    nonce: str = ""
    guess: bool = False


class Unavailable(msgspec.Struct, frozen=True):
    """Whether the credential is good cannot be told now. `retry_after` is in seconds."""

    detail: str
    retry_after: int = 5


Identified = Absent | Ok | Invalid | Unavailable
