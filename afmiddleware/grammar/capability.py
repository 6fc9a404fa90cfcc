"""Capabilities and capability patterns: dotted lower-case segments, with wildcards in patterns."""

from __future__ import annotations

import re
from typing import Final

from afmiddleware.errors import GrammarError

_SEGMENT: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_CAPABILITY = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*", re.ASCII)
_PATTERN_SEGMENT = re.compile(r"[a-z0-9_*-]+", re.ASCII)
MAX_CAPABILITY: Final = 200
"""The longest capability, in characters."""


def check_capability(text: str) -> str:
    """Return `text` when it is a well-formed capability, `payments.transfer.create`. Raises `GrammarError`."""
    if len(text) > MAX_CAPABILITY or _CAPABILITY.fullmatch(text) is None:
        msg = f"{text[:60]!r} is not a capability: dotted segments of a-z, 0-9, _ and - such as flights.book"
        raise GrammarError(msg)
    return text


def check_segment(text: str) -> str:
    """Return `text` when it is exactly one capability segment. Raises `GrammarError`."""
    if "." in text:
        msg = f"{text[:60]!r} is more than one capability segment"
        raise GrammarError(msg)
    return check_capability(text)


def check_pattern(text: str) -> str:
    """Return `text` when it is a well-formed capability pattern. Raises `GrammarError`.

    `*` stands for one segment or a part of one; a final `**` for zero or more segments.
    """
    segments = text.split(".")
    for place, segment in enumerate(segments):
        if segment == "**" and place == len(segments) - 1:
            continue
        if "**" in segment or _PATTERN_SEGMENT.fullmatch(segment) is None:
            msg = (
                f"{text[:60]!r} is not a capability pattern: dotted segments of a-z, 0-9, _ and -, where * stands for "
                "one segment or a part of one and a final ** for the rest"
            )
            raise GrammarError(msg)
    if len(text) > MAX_CAPABILITY:
        msg = f"the capability pattern is longer than {MAX_CAPABILITY} characters"
        raise GrammarError(msg)
    return text


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a checked pattern for `fullmatch`. It has no nested repeats, so matching is linear per segment."""
    segments = pattern.split(".")
    rest = segments[-1] == "**"
    parts = [re.escape(segment).replace(r"\*", r"[^.]*") for segment in (segments[:-1] if rest else segments)]
    # A lone * is a whole segment and so never empty.
    parts = [r"[^.]+" if part == r"[^.]*" else part for part in parts]
    if not rest:
        return re.compile(r"\.".join(parts), re.ASCII)
    if not parts:
        return re.compile(r".*", re.ASCII)
    return re.compile(r"\.".join(parts) + r"(?:\..+)?", re.ASCII)


def matches(pattern: str, capability: str) -> bool:
    """Whether a checked pattern covers a checked capability. Compile with `pattern_regex` where it is asked often."""
    return pattern_regex(pattern).fullmatch(capability) is not None
