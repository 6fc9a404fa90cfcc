"""What the ledger keeps of an API key."""

from __future__ import annotations

import msgspec


class ApiKeyRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger keeps of a key, never the key. Times are in microseconds since the epoch, 0 for never.

    It is good from `begins` until `expires` or `revoked`, from `networks` only if there are any (`10.0.0.0/8`). Limits,
    spend and receipts hang on `account`. `agent` names the agent that the key was given to, if it is one. `rotated_to`
    is the id of the key that took its place.
    """

    id: str
    digest: bytes
    account: str
    label: str = ""
    scopes: tuple[str, ...] = ()
    created: int = 0
    expires: int = 0
    revoked: int = 0
    begins: int = 0
    roles: tuple[str, ...] = ()
    tenant: str = ""
    agent: str = ""
    networks: tuple[str, ...] = ()
    rotated_to: str = ""
