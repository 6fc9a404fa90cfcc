"""Regular expressions of fence.yaml, on an engine whose time is linear in the text: no input can make one slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import re2

from afmiddleware.errors import GrammarError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT: Final = 4096
"""The longest text, in bytes of UTF-8, that an expression is asked about."""
MAX_PATTERN: Final = 1000


def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Compile an expression in RE2's syntax to a full match.

    What comes back raises `ValueError` for a text longer than `MAX_TEXT` bytes, or one that is not Unicode. Raises
    `GrammarError` when the expression is longer than 1000 characters or not one: RE2 has no back-references and no
    look-around, because those cannot be matched in linear time.
    """
    if len(pattern) > MAX_PATTERN:
        msg = f"the expression is longer than {MAX_PATTERN} characters; write a list, or several conditions"
        raise GrammarError(msg)
    options = re2.Options()
    options.log_errors = False
    try:
        fullmatch = re2.compile(pattern.encode("utf-8"), options).fullmatch
    except (re2.error, UnicodeEncodeError) as error:
        msg = f"{pattern[:60]!r} is not a regular expression of RE2: {_said(error)}"
        raise GrammarError(msg) from None

    def matches(text: str) -> bool:
        # UnicodeEncodeError is a ValueError.
        content = text.encode("utf-8")
        if len(content) > MAX_TEXT:
            msg = f"longer than {MAX_TEXT} bytes"
            raise ValueError(msg)
        return fullmatch(content) is not None

    return matches


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
