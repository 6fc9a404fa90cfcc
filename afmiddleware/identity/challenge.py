"""`WWW-Authenticate` (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9449 section 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.identity.binding import ALGORITHMS
from afmiddleware.model.codes import IDENTITY_NONCE, IDENTITY_PROOF

if TYPE_CHECKING:
    from afmiddleware.model.verdict import Verdict

_ERRORS = {
    "identity.invalid": "invalid_token",
    "identity.tier": "insufficient_scope",
    "identity.scope": "insufficient_scope",
}
_PROOFS = {IDENTITY_PROOF: "invalid_dpop_proof", IDENTITY_NONCE: "use_dpop_nonce"}


def challenge(verdict: Verdict) -> str:
    """What to ask of the caller; empty when a credential would not help."""
    if verdict.code == "identity.required":
        return 'Bearer realm="api"'
    if verdict.code in _PROOFS:
        return f'DPoP realm="api", error="{_PROOFS[verdict.code]}", algs="{" ".join(ALGORITHMS)}"'
    error = _ERRORS.get(verdict.code)
    return f'Bearer realm="api", error="{error}"' if error is not None else ""
