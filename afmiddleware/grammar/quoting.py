"""How much of a text that somebody wrote a message shows."""

from __future__ import annotations

from typing import Final

SHOWN: Final = 80
"""How many characters."""


def cut(text: str) -> str:
    """The beginning of a text."""
    return text[:SHOWN]


def quoted(text: str) -> str:
    """The beginning of a text in quotes, with what cannot be printed spelled out."""
    return repr(text[:SHOWN])
