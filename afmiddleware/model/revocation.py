"""A token that was taken back before its end."""

from __future__ import annotations

from typing import Final

import msgspec

ANY_TIME: Final = 2**62


class Revocation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is taken back: `jti`, `sub`, `client` or `kid` (`kind`) called `name`, of an issuer.

    Struck are tokens issued up to `before`; the entry is kept until `until`. Both in microseconds since the epoch.
    """

    kind: str
    issuer: str
    name: str
    before: int
    until: int

    @property
    def key(self) -> str:
        """What names the entry, unlike any other."""
        return f"{self.kind}:{len(self.issuer)}:{self.issuer}|{self.name}"
