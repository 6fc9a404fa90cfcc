"""A policy as it was written, kept so that what it decided can be decided once more."""

from __future__ import annotations

import msgspec


class PolicyText(msgspec.Struct, frozen=True, array_like=True):
    """The text of a policy file and of its lists' files, by the names of the lists; `file` is the digest of both.

    Secrets are not in it: a policy names where they are. Without `text` it only says which file a policy is of.
    """

    file: str
    text: str = ""
    lists: dict[str, str] = {}
