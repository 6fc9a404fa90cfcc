"""Named lists of values, `lists:` of the policy file, and how values are compared with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from afmiddleware.errors import GrammarError

if TYPE_CHECKING:
    from collections.abc import Iterable

NORMALIZE: Final = ("evm", "lower")
"""How entries and values may be made alike: `evm` addresses without the case of their checksum, or lower-case texts."""

_EVM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class Words(NamedTuple):
    """A list's entries in their normal form. An empty `normalize` means that values compare exactly."""

    entries: frozenset[str]
    normalize: str = ""


def normal(text: str, normalize: str) -> str | None:
    """The normal form of a value, `None` when it has none: what is no address is neither in a list nor outside it."""
    if normalize == "evm":
        return text.lower() if _EVM.fullmatch(text) is not None else None
    return text.lower() if normalize == "lower" else text


def make_words(entries: Iterable[str], normalize: str = "") -> Words:
    """Make a list. Raises `GrammarError` naming the first entry that has no normal form."""
    found: set[str] = set()
    for entry in entries:
        word = normal(entry, normalize)
        if word is None:
            msg = f"{entry[:60]!r} is not an address of the form 0x and 40 hexadecimal digits"
            raise GrammarError(msg)
        found.add(word)
    return Words(frozenset(found), normalize)


def entries_of(text: str) -> list[str]:
    """The entries of a list's file: one a line; blank lines and lines that begin with # say nothing."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]
