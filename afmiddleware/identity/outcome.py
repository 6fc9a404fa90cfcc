"""What looking at the credentials of a request can come to."""

from __future__ import annotations

import msgspec

from afmiddleware.model.actor import Actor


class Absent(msgspec.Struct, frozen=True):
    """There is no credential: the caller is anonymous."""


class Ok(msgspec.Struct, frozen=True):
    """The credential is good."""

    actor: Actor


class Invalid(msgspec.Struct, frozen=True):
    """A credential is there and is not good: the request is refused, never taken for anonymous.

    `detail` is for the log alone; telling it to the caller would help guessing. `code` is `identity.invalid`,
    `identity.proof`, `identity.nonce`, `session.invalid` or `request.ambiguous`. `foreign` is a credential of a kind
    that the policy does not know; `nonce` is what the caller has to put into its next proof.
    """

    detail: str
    code: str = "identity.invalid"
    foreign: bool = False
    nonce: str = ""


class Unavailable(msgspec.Struct, frozen=True):
    """Whether the credential is good cannot be told now. `retry_after` is in seconds."""

    detail: str
    retry_after: int = 5


Identified = Absent | Ok | Invalid | Unavailable
