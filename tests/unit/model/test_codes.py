"""The table of reason codes."""

from __future__ import annotations

import re
from pathlib import Path

from afmiddleware.model import codes
from afmiddleware.model.codes import CODES

REMEDIES = {"authenticate", "step_up", "wait", "reduce_amount", "request_approval", "change_request", "stop"}
STATUSES = {
    "identity.required": 401,
    "identity.invalid": 401,
    "identity.proof": 401,
    "identity.nonce": 401,
    "identity.unavailable": 503,
    "request.ambiguous": 400,
    "identity.tier": 403,
    "identity.scope": 403,
    "route.unmapped": 403,
    "policy.unmatched": 403,
    "policy.denied": 403,
    "amount.over_action_cap": 403,
    "spend.exceeded": 403,
    "rate.exceeded": 429,
    "concurrency.exceeded": 429,
    "approval.required": 403,
    "approval.pending": 202,
    "approval.denied": 403,
    "approval.expired": 403,
    "approval.consumed": 403,
    "approval.mismatch": 403,
    "breaker.open": 503,
    "ledger.unavailable": 503,
    "policy.unavailable": 503,
    "amount.unresolvable": 422,
    "currency.mismatch": 422,
    "request.too_large": 413,
    "request.media_type": 415,
    "idempotency.missing": 400,
    "idempotency.in_flight": 409,
    "idempotency.mismatch": 422,
    "idempotency.outcome_unknown": 409,
    "idempotency.replay_unavailable": 409,
    "session.invalid": 403,
    "actor.frozen": 403,
    "capability.frozen": 403,
    "ledger.full": 503,
    "request.unsealed": 500,
    "request.unknown_method": 400,
    "request.header_mismatch": 400,
    "request.batch_refused": 403,
    "policy.allowed": 200,
}


def test_every_code_has_the_status_of_the_contract() -> None:
    assert {name: code.status for name, code in CODES.items()} == STATUSES


def test_rows_are_well_formed() -> None:
    for name, code in CODES.items():
        assert name == code.code
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert code.title
        assert not code.title.endswith(".")
        assert set(code.remediation) <= REMEDIES
        assert bool(code.remediation) == (name != "policy.allowed")


def test_every_constant_is_a_code() -> None:
    named = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert named <= set(CODES)
    assert len(named) > 20


def test_the_page_for_callers_lists_every_code_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (\d+) \| ([a-z_, ]*) \| \S", page, re.MULTILINE)
    assert listed == [(code.code, str(code.status), ", ".join(code.remediation)) for code in CODES.values()]
