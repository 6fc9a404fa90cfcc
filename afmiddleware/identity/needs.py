"""What identity may have to look up; the hot path asks for nothing."""

from __future__ import annotations

import msgspec


class NeedKey(msgspec.Struct, frozen=True):
    """The record of an API key, or `None`."""

    key_id: str


class NeedKeySet(msgspec.Struct, frozen=True):
    """The keys of an issuer, fresh enough to hold `kid` if the issuer has it."""

    issuer: str
    kid: str


Need = NeedKey | NeedKeySet
