"""What identity may have to look up; the hot path asks for nothing."""

from __future__ import annotations

import msgspec


class NeedKey(msgspec.Struct, frozen=True):
    """The record of an API key, or `None`. `seen` means that its id has led to a good key before."""

    key_id: str
    seen: bool = False


class NeedKeySet(msgspec.Struct, frozen=True):
    """The keys of an issuer, fresh enough to hold `kid` if the issuer has it."""

    issuer: str
    kid: str


class NeedOnce(msgspec.Struct, frozen=True):
    """Whether this is the first use of `key` within `keep` microseconds, over all that share the ledger: a boolean.

    `key` begins with what it is (`dpop:...`) and holds no secret. Whoever is told `True` has used it up.
    """

    key: str
    keep: int


class NoteUse(msgspec.Struct, frozen=True):
    """That an API key was good `at` a time (microseconds since the epoch): nothing is answered, and nothing waits."""

    key_id: str
    at: int


class NeedRevocations(msgspec.Struct, frozen=True):
    """Every token that was taken back before its end: a list of `Revocation`."""


class NeedIntrospection(msgspec.Struct, frozen=True):
    """What the authorization server says of a token (RFC 7662): the JSON value of its answer.

    `seen` means that it has said so before.
    """

    token: str
    seen: bool = False

    def __repr__(self) -> str:
        return "NeedIntrospection(...)"


Need = NeedKey | NeedKeySet | NeedOnce | NoteUse | NeedRevocations | NeedIntrospection
