"""`WWW-Authenticate` (RFC 9110 section 11.6.1, RFC 6750 section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afmiddleware.model.verdict import Verdict

_ERRORS = {
    "identity.invalid": "invalid_token",
    "identity.tier": "insufficient_scope",
    "identity.scope": "insufficient_scope",
}


def challenge(verdict: Verdict) -> str:
    """What to ask of the caller; empty when a credential would not help."""
    if verdict.code == "identity.required":
        return 'Bearer realm="api"'
    error = _ERRORS.get(verdict.code)
    return f'Bearer realm="api", error="{error}"' if error is not None else ""
