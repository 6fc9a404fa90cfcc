"""Rules for agents alone, through Starlette, Flask and Django: what a caller hides or claims gains it nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from tests.integrations.test_people_fastapi_flask_django import DRIVEN, PERSON, SENDERS

POLICY = """
version: 1
service: people
ledger: memory
identity: {from_app: {tier: verified}}
routes:
  - {route: POST /all, capability: people.all}
  - {route: POST /agents, capability: people.agents}
  - {route: POST /proven, capability: people.proven}
rules:
  deny: [{capability: people.agents, applies_to: agents}]
  allow:
    - people.agents
    - {capability: people.all, applies_to: agents}
    - {capability: people.proven, applies_to: proven_agents}
"""


@pytest.fixture(params=["starlette", "flask", "django sync", "django async"])
def send(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    fence = Fence(load(POLICY), base=tmp_path)
    return lambda where, headers: SENDERS[request.param](fence, where, headers).status_code


@pytest.mark.parametrize("way", ["starlette", "flask", "django sync", "django async"])
def test_a_dry_run_of_a_person_does_not_run(way: str, tmp_path: Path) -> None:
    fence = Fence(
        load(POLICY.replace("capability: people.agents}", "capability: people.agents, applies_to: agents}")),
        base=tmp_path,
    )
    assert SENDERS[way](fence, "/agents", PERSON).text == "ran"
    assert SENDERS[way](fence, "/agents", {**PERSON, "agent-dry-run": "?1"}).text != "ran"


def test_only_a_person_without_marks_escapes_a_rule_against_agents(send: Any) -> None:  # 76
    assert send("/agents", PERSON) == 200
    assert send("/agents", DRIVEN) == 403
    assert send("/agents", {}) == 403
    assert send("/agents", {"user-agent": PERSON["user-agent"]}) == 403
    assert send("/agents", {**PERSON, "signature-agent": '"https://a.example"'}) == 403
    assert send("/agents", {**PERSON, "mcp-protocol-version": "2026-07-28"}) == 403


def test_whoever_says_that_it_is_an_agent_has_proven_nothing(send: Any) -> None:
    # Who shows nothing may show something; who is a user of the application is known, and is none.
    for headers in ({}, {"signature-agent": '"https://chatgpt.com"', "user-agent": "ChatGPT-User/1.0"}):
        assert send("/proven", headers) == 401
    for headers in (DRIVEN, PERSON):
        assert send("/proven", headers) == 403
    # A person does not become an agent by saying so either.
    assert send("/all", DRIVEN) == 403
    assert send("/all", PERSON) == 403
    assert send("/all", {}) == 200
