"""What the policy language has and this version does not, and what it never has: refused by name, never ignored."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

NOT_SUPPORTED: Final = "is not supported yet by this version"
"""How every refusal of such a thing reads."""

NOT_YET: Final = frozenset({"approvals", "webhooks"})
"""Keys by their path that a later version will know."""

NEEDLESS: Final = MappingProxyType(
    {
        "identity.on_invalid": "a credential that is there and is bad is always refused with 401",
        "identity.order": "every credential of a request is checked, and they have to agree",
        "identity.anonymous": "strangers are told apart by IPv4 address and IPv6 /64, and counted in the blocks around",
        "identity.api_keys.path": "keys are in the ledger; name that under ledger",
        "identity.api_keys.pepper_env": "a key's secret has 256 random bits, so its SHA-256 tells nothing of it",
        "identity.api_keys.tier": "a key is a secret that is looked up, so it is worth token; verified is signed",
    },
)
"""Keys by their path that are known from elsewhere and not needed here, and what holds in their place."""


def unsupported(path: tuple[str | int, ...]) -> str:
    """What is said of a key at `path` that is refused by its name; empty for any other key."""
    name = ".".join("*" if isinstance(part, int) else part for part in path)
    if name in NOT_YET:
        return NOT_SUPPORTED
    return f"is not needed: {NEEDLESS[name]}" if name in NEEDLESS else ""
