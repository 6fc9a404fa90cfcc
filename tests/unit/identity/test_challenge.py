"""A refusal says what credential would help, and nothing about why the one at hand was bad."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import WWWAuthenticate

from afmiddleware.identity.challenge import challenge
from afmiddleware.model.codes import CODES
from afmiddleware.model.verdict import Verdict

ERRORS = {
    "identity.required": None,
    "identity.invalid": "invalid_token",
    "identity.tier": "insufficient_scope",
    "identity.scope": "insufficient_scope",
    "identity.proof": "invalid_dpop_proof",
    "identity.nonce": "use_dpop_nonce",
}


@pytest.mark.parametrize("code", CODES)
def test_a_challenge_stands_where_a_credential_would_help(code):
    text = challenge(Verdict(authorized=False, code=code, reason='a "secret" reason'))
    if code not in ERRORS:
        assert text == ""
        return
    parsed = WWWAuthenticate.from_header(text)
    assert parsed is not None
    proof = code in ("identity.proof", "identity.nonce")
    assert parsed.type == ("dpop" if proof else "bearer")
    expected = {"realm": "api"} if ERRORS[code] is None else {"realm": "api", "error": ERRORS[code]}
    if proof:
        expected["algs"] = "ES256 ES384 RS256 PS256 EdDSA"
    assert dict(parsed.parameters) == expected


def test_every_401_has_a_challenge():
    for code, row in CODES.items():
        if row.status == 401:
            assert challenge(Verdict(authorized=False, code=code))
