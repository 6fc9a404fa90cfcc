"""Where the service is reached, as its clients write it: from the policy, never from what a request says of itself.

`Host` only selects among several origins of the policy, so whoever spoofs it gains nothing (RFC 9449 section 4.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.grammar.origins import PORTS, origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.http import HttpFacts


class Origins:
    """The public origins of a service (`https://api.example.com`), each in its one normal form.

    Raises `ValueError` for a text that is no origin: a scheme, a host and perhaps a port, and nothing after them.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = {origin_of(text).partition("://")[2]: origin_of(text) for text in origins}

    def __bool__(self) -> bool:
        return bool(self._origins)

    def of(self, facts: HttpFacts) -> str | None:
        """The origin that a request came to: the only one, or the one that its `Host` names; `None` when none is."""
        if len(self._origins) == 1:
            return next(iter(self._origins.values()))
        host = (facts.first(b"host") or b"").decode("latin-1").lower()
        for authority, origin in self._origins.items():
            port = PORTS[origin.partition("://")[0]]
            if host in (authority, f"{authority}:{port}"):
                return origin
        return None
