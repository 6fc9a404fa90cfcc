"""What the ledger keeps of an API key."""

from __future__ import annotations

import msgspec


class ApiKeyRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger keeps of a key. Times are in microseconds since the epoch, 0 for never."""

    id: str
    digest: bytes
    account: str
    label: str = ""
    scopes: tuple[str, ...] = ()
    created: int = 0
    expires: int = 0
    revoked: int = 0
