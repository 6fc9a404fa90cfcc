"""What the policy language does not have yet, or does not need, is refused by name, and nothing is said beside it."""

from __future__ import annotations

import pytest

from afmiddleware.config.later import NEEDLESS, NOT_YET
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError

START = "version: 1\nservice: s\n"
LATER = "is not supported yet by this version"
ISSUER = "issuer: 'https://a.example', audience: a, algorithms: [ES256], discovery: oidc"

KEYS = {
    "approvals": '{finance: {approvers: ["role:finance"], required: 1, expires: 1h}}',
    "webhooks": '[{url: "https://ops.example.com", events: ["approval.*"]}]',
    "identity.on_invalid": "reject",
    "identity.order": "[client_cert, api_key, jwt, web_bot_auth]",
    "identity.api_keys.path": "keys.db",
    "identity.api_keys.pepper_env": "AF_PEPPER",
    "identity.api_keys.tier": "token",
    "identity.anonymous": "{ipv4_prefix: 32}",
}
"""Every such key by its path, `*` for an entry of a list, with a value that it will take."""

ENTRIES = {
    "routes.*": "route: GET /a, capability: a.b",
    "rules.deny.*": "capability: a.b",
    "rules.require_approval.*": "capability: a.b",
    "rules.allow.*": "capability: a.b",
    "limits.*": "name: a, rate: 1/day",
    "identity.jwt.issuers.*": ISSUER,
}
"""What an entry must hold beside."""


def written(path: str, value: str) -> str:
    """A policy, right but for the key at `path`."""
    parts = path.split(".")
    text = value
    for place in range(len(parts) - 1, -1, -1):
        around = ".".join(parts[:place])
        more = f", {ENTRIES[around]}" if around in ENTRIES else ""
        text = f"[{text}]" if parts[place] == "*" else f"{{{parts[place]}: {text}{more}}}"
    return START + text[1:-1] + "\n"


@pytest.mark.parametrize("path", KEYS)
def test_such_a_key_is_refused_by_its_name(path):
    with pytest.raises(ConfigError) as caught:
        load(written(path, KEYS[path]))
    name = path.replace(".*", "[1]")
    assert [one.split(": ", 1)[1] for one in caught.value.problems] == [
        f"{name} {f'is not needed: {NEEDLESS[path]}' if path in NEEDLESS else LATER}; remove it"
    ]


@pytest.mark.parametrize("path", KEYS)
def test_the_same_policy_without_the_key_is_right(path):
    """So what is refused above is refused for that key alone."""
    around = path.rpartition(".")[0]
    text = written(path, KEYS[path])
    key = f"{path.rpartition('.')[2]}: {KEYS[path]}"
    without = text.replace(f"{key}, ", "") if around in ENTRIES else text.replace(key, "")
    assert load(without).service == "s"


def test_the_tables_hold_every_such_key():
    assert set(KEYS) == NOT_YET | set(NEEDLESS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "identity: {public_origins: ['https://a.example'], web_bot_auth: {trust: open, agents: [{origin: 'https://b'}]}}",
            (
                "identity.web_bot_auth.trust: open would take whoever publishes a key for an agent, and fetch what "
                "strangers name; list the agents"
            ),
        ),
    ],
)
def test_a_word_of_a_later_version_is_refused_by_its_name(text, said):
    with pytest.raises(ConfigError) as caught:
        load(START + text + "\n")
    assert [one.split(": ", 1)[1] for one in caught.value.problems] == [said]
