"""What the policy language has and this version does not: refused by name, never ignored."""

from __future__ import annotations

from typing import Final

NOT_SUPPORTED: Final = "is not supported yet by this version"
"""How every refusal of such a thing reads."""

NOT_YET: Final = frozenset(
    {
        "approvals",
        "webhooks",
        "identity.agent_detection",
        "identity.challenge",
        "identity.limits",
        "identity.anonymous",
        "identity.order",
        "identity.on_invalid",
        "identity.api_keys.prefix",
        "identity.api_keys.pepper_env",
        "identity.api_keys.path",
        "identity.api_keys.cache_s",
        "identity.api_keys.tier",
        "rules.deny.*.applies_to",
        "rules.require_approval.*.applies_to",
        "rules.allow.*.applies_to",
    },
)
"""Keys by their path, `*` for any place in a list."""


def not_yet(path: tuple[str | int, ...]) -> bool:
    """Whether the key at `path` is one that a later version will know."""
    return ".".join("*" if isinstance(part, int) else part for part in path) in NOT_YET
