"""What a policy reads from the environment."""

from __future__ import annotations

import pytest

from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError

START = "version: 1\nservice: s\n"


def test_a_url_with_a_password_is_read_whole_from_the_environment():
    env = {"LEDGER": "postgresql://me:hush@h/d", "RATES": "redis://:hush@h"}
    read = load(START + "ledger: ${LEDGER}\nrates: ${RATES}\nmetadata: {a: ['${LEDGER}']}\n", env=env)
    assert (read.ledger, read.rates) == (env["LEDGER"], env["RATES"])
    assert read.metadata == {"a": ["${LEDGER}"]}
    with pytest.raises(ConfigError, match="the environment variable LEDGER is not set; set it"):
        load(START + "ledger: ${LEDGER}\n")


def test_without_secrets_a_policy_reads_that_names_some() -> None:
    """What is kept of a policy is its text: it decides once more where nobody has its secrets."""
    text = (
        "version: 1\nservice: s\nledger: ${LEDGER}\nrates: ${RATES}\n"
        "receipts: {mac_key: '${MAC}', signing_key: '${KEY}'}\n"
        "identity: {introspection: {issuer: 'https://a.example', endpoint: 'https://a.example/i', audience: x,"
        " client_id: c, client_secret: '${CLIENT}'}}\n"
    )
    with pytest.raises(ConfigError, match="LEDGER is not set"):
        load(text)
    found = load(text, secrets=False)
    assert found.digest == load(text, env={}, secrets=False).digest
    assert "${" not in found.ledger
    assert found.rates is None
