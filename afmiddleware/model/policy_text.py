"""A policy as it was written, kept so that what it decided can be decided once more."""

from __future__ import annotations

import msgspec


class PolicyText(msgspec.Struct, frozen=True, array_like=True):
    """The text of a policy file and of its lists' files, by the names of the lists; `file` is the digest of both.

    Secrets are not in it: a policy names where they are. Without `text` it only says which file a policy is of, with
    `proof`: a MAC over `pairing`, for the digest of a policy with bindings from code can be worked out of no file.
    """

    file: str
    text: str = ""
    lists: dict[str, str] = {}
    proof: bytes = b""


def pairing(policy: str, file: str) -> bytes:
    """What is authenticated where a policy of one digest has the file of another."""
    return f"afm/policy-file/1\n{policy}\n{file}".encode()
