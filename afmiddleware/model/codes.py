"""The stable reason codes: what each is called on the wire and what a machine can do about it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(msgspec.Struct, frozen=True, gc=False):
    """One reason code.

    `status` is the HTTP status of its problem (RFC 9457), `title` the problem's title, which never varies.
    `remediation` lists what a machine can do: `authenticate`, `step_up`, `wait`, `reduce_amount`, `request_approval`,
    `change_request` (as the detail says) or `stop`.
    """

    code: str
    status: int
    title: str
    remediation: tuple[str, ...]


POLICY_ALLOWED: Final = "policy.allowed"
POLICY_DENIED: Final = "policy.denied"
POLICY_UNMATCHED: Final = "policy.unmatched"
POLICY_UNAVAILABLE: Final = "policy.unavailable"
ROUTE_UNMAPPED: Final = "route.unmapped"
IDENTITY_REQUIRED: Final = "identity.required"
IDENTITY_INVALID: Final = "identity.invalid"
IDENTITY_PROOF: Final = "identity.proof"
IDENTITY_NONCE: Final = "identity.nonce"
SESSION_INVALID: Final = "session.invalid"
IDENTITY_UNAVAILABLE: Final = "identity.unavailable"
IDENTITY_TIER: Final = "identity.tier"
IDENTITY_SCOPE: Final = "identity.scope"
APPROVAL_REQUIRED: Final = "approval.required"
ACTOR_FROZEN: Final = "actor.frozen"
REQUEST_AMBIGUOUS: Final = "request.ambiguous"
REQUEST_TOO_LARGE: Final = "request.too_large"
REQUEST_MEDIA_TYPE: Final = "request.media_type"
REQUEST_UNSEALED: Final = "request.unsealed"
REQUEST_UNKNOWN_METHOD: Final = "request.unknown_method"
REQUEST_HEADER_MISMATCH: Final = "request.header_mismatch"
REQUEST_BATCH_REFUSED: Final = "request.batch_refused"
AMOUNT_OVER_ACTION_CAP: Final = "amount.over_action_cap"
AMOUNT_UNRESOLVABLE: Final = "amount.unresolvable"
CURRENCY_MISMATCH: Final = "currency.mismatch"
SPEND_EXCEEDED: Final = "spend.exceeded"
RATE_EXCEEDED: Final = "rate.exceeded"
CONCURRENCY_EXCEEDED: Final = "concurrency.exceeded"
LEDGER_UNAVAILABLE: Final = "ledger.unavailable"
LEDGER_FULL: Final = "ledger.full"
BREAKER_OPEN: Final = "breaker.open"

_ROWS: Final = (
    Code(POLICY_ALLOWED, 200, "The action is allowed", ()),
    Code(POLICY_DENIED, 403, "A rule denies this action", ("stop",)),
    Code(POLICY_UNMATCHED, 403, "No rule allows this action", ("stop",)),
    Code(POLICY_UNAVAILABLE, 503, "The policy cannot be used at the moment", ("wait",)),
    Code(ROUTE_UNMAPPED, 403, "This endpoint is not open to callers", ("stop",)),
    Code(IDENTITY_REQUIRED, 401, "A credential is needed", ("authenticate",)),
    Code(IDENTITY_INVALID, 401, "The credential is not valid", ("authenticate",)),
    Code(IDENTITY_PROOF, 401, "The proof of possession is not valid", ("authenticate",)),
    Code(IDENTITY_NONCE, 401, "A fresh nonce is needed in the proof", ("authenticate",)),
    Code(IDENTITY_UNAVAILABLE, 503, "The credential cannot be checked at the moment", ("wait",)),
    Code(IDENTITY_TIER, 403, "A stronger identity is needed", ("step_up",)),
    Code(IDENTITY_SCOPE, 403, "The credential lacks a scope or a role", ("step_up",)),
    Code(REQUEST_AMBIGUOUS, 400, "The request can be read in more than one way", ("change_request",)),
    Code(REQUEST_TOO_LARGE, 413, "The request body is too large", ("change_request",)),
    Code(REQUEST_MEDIA_TYPE, 415, "The media type or encoding is not accepted", ("change_request",)),
    Code(REQUEST_UNKNOWN_METHOD, 400, "The method is not known here", ("change_request",)),
    Code(REQUEST_HEADER_MISMATCH, 400, "A header does not say what the body says", ("change_request",)),
    Code(REQUEST_BATCH_REFUSED, 403, "Another call of the same request was refused", ("change_request",)),
    Code(REQUEST_UNSEALED, 500, "The request changed after it was judged", ("stop",)),
    Code(AMOUNT_OVER_ACTION_CAP, 403, "The amount is over the cap of one action", ("reduce_amount",)),
    Code(AMOUNT_UNRESOLVABLE, 422, "A value the policy needs cannot be read", ("change_request",)),
    Code(CURRENCY_MISMATCH, 422, "The currency is not the one the policy speaks of", ("change_request",)),
    Code(SPEND_EXCEEDED, 403, "A spend limit would be exceeded", ("reduce_amount", "wait")),
    Code(RATE_EXCEEDED, 429, "Too many requests", ("wait",)),
    Code(CONCURRENCY_EXCEEDED, 429, "Too many requests at once", ("wait",)),
    Code(APPROVAL_REQUIRED, 403, "An approval is needed", ("request_approval",)),
    Code("approval.pending", 202, "An approval was requested", ("wait",)),
    Code("approval.denied", 403, "The approval was denied", ("stop",)),
    Code("approval.expired", 403, "The approval has expired", ("request_approval",)),
    Code("approval.consumed", 403, "The approval was used up", ("request_approval",)),
    Code("approval.mismatch", 403, "The approval is for another action", ("request_approval",)),
    Code(BREAKER_OPEN, 503, "Spending is stopped by a circuit breaker", ("wait",)),
    Code(LEDGER_UNAVAILABLE, 503, "The decision cannot be recorded at the moment", ("wait",)),
    Code(LEDGER_FULL, 503, "No room for another caller at the moment", ("wait",)),
    Code("idempotency.missing", 400, "An Idempotency-Key is needed", ("change_request",)),
    Code("idempotency.in_flight", 409, "The first request with this key is still running", ("wait",)),
    Code("idempotency.mismatch", 422, "This key was used for another request", ("change_request",)),
    Code("idempotency.outcome_unknown", 409, "The outcome of the first attempt is not known", ("stop",)),
    Code("idempotency.replay_unavailable", 409, "The stored answer was not kept", ("stop",)),
    Code(SESSION_INVALID, 403, "The session handle is not valid for this caller", ("stop",)),
    Code(ACTOR_FROZEN, 403, "The operator has frozen this caller", ("stop",)),
    Code("capability.frozen", 403, "The operator has stopped this action", ("stop",)),
)

CODES: Final[Mapping[str, Code]] = MappingProxyType({row.code: row for row in _ROWS})
"""Every reason code by its name."""
