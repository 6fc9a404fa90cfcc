"""Charsets that a label names: everything here is UTF-8, and some frameworks would decode by another name."""

from __future__ import annotations

import re

_UTF8 = re.compile(rb'charset="?utf-8"?(?=[ \t]*(?:;|\Z))', re.IGNORECASE)


def is_utf8(media: bytes) -> bool:
    """Whether a Content-Type names no charset but UTF-8, in whatever spelling readers know (`charset*=`, RFC 2231)."""
    return b"charset" not in _UTF8.sub(b"", media).lower()
