"""Origins (RFC 6454): a scheme, a host, and a port that may be left out."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

PORTS: Final = {"https": 443, "http": 80}
"""The schemes, and the port that each has anyway."""


def origin_of(text: str) -> str:
    """An origin in its normal form: lower case, without the port that its scheme has anyway (RFC 6454 section 6.2).

    Raises `ValueError` when it is none.
    """
    parts = urlsplit(text)
    host = parts.hostname
    fits = parts.scheme in PORTS and host and parts.username is None and not (parts.query or parts.fragment)
    if not fits or parts.path not in ("", "/") or not text.isascii() or not text.isprintable() or " " in text:
        msg = f"{text[:80]!r} is not an origin; write one such as https://api.example.com"
        raise ValueError(msg)
    name = f"[{host}]" if host is not None and ":" in host else host
    port = "" if parts.port in (None, PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"
