"""A refused caller finds its way, through FastAPI, Flask and Django."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.testing import FrozenClock, mint_es256_issuer
from tests.integrations.agents.sites import API, ROUTES, STACKS, Site

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.fixture(params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    issuer = mint_es256_issuer(clock=FrozenClock())
    (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")

    def made(more: str = "") -> Any:
        policy = f"""
identity:
  public_origins: [{API}]
  api_keys: {{store: ledger}}
  jwt: {{issuers: [{{issuer: {issuer.issuer}, audience: {issuer.audience}, algorithms: [ES256], jwks_file: jwks.json}}]}}
{more}
{ROUTES}
rules: {{allow: [{{capability: shop.read, identity: verified, scopes: [read]}}, {{capability: shop.pay, identity: verified}}]}}
"""
        one: Any = Site(request.param, policy, tmp_path)
        one.issuer = issuer
        return one

    return made


def test_who_shows_nothing_is_told_where_to_go(site: Any) -> None:
    answer = site().send("GET", "/read")
    told = answer.headers["www-authenticate"]
    assert answer.status_code == 401
    assert told.startswith(f'Bearer realm="api", scope="read", resource_metadata="{API}{WELL_KNOWN}"')
    assert 'ApiKey realm="api", header="x-api-key"' in told
    assert "accept-signature" not in answer.headers


def test_who_lacks_a_scope_is_told_which(site: Any) -> None:
    one = site()
    bearer = ("authorization", f"Bearer {one.issuer.mint(scope='write')}")
    answer = one.send("GET", "/read", [bearer])
    assert answer.status_code == 403
    assert 'error="insufficient_scope", scope="read"' in answer.headers["www-authenticate"]
    bad = one.send("GET", "/read", [("authorization", "Bearer a.b.c")])
    assert (bad.status_code, 'error="invalid_token"' in bad.headers["www-authenticate"]) == (401, True)


def test_the_metadata_is_served_to_anybody(site: Any) -> None:
    one = site()
    for where, resource in (("", API), ("/", API), ("/pay", f"{API}/pay")):
        answer = one.send("GET", WELL_KNOWN + where)
        assert answer.status_code == 200, where
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json() == {
            "resource": resource,
            "authorization_servers": [one.issuer.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "agents",
            "scopes_supported": ["read"],
            "dpop_signing_alg_values_supported": ["ES256", "ES384", "RS256", "PS256", "EdDSA"],
        }
    assert one.send("OPTIONS", WELL_KNOWN).status_code == 204
    assert one.send("POST", WELL_KNOWN).status_code == 405
    assert one.send("HEAD", WELL_KNOWN).content == b""
    assert one.send("GET", f"{WELL_KNOWN}/nothing").status_code in (403, 404)
    assert one.decided() == []


def test_it_can_be_left_to_the_application(site: Any) -> None:
    one = site("  challenge: {realm: shop, resource_metadata: off}")
    assert one.send("GET", WELL_KNOWN).status_code in (403, 404)
    told = one.send("GET", "/read").headers["www-authenticate"]
    assert told.startswith('Bearer realm="shop", scope="read"')
    assert "resource_metadata" not in told


def test_agents_are_told_what_to_sign(site: Any) -> None:
    agent = (
        "  web_bot_auth: {mode: enforce, agents: [{origin: https://agent.example, directory: https://agent.example/k}]}"
    )
    answer = site(agent).send("POST", "/pay", body=b'{"amount": "1.00"}')
    assert answer.status_code == 401
    assert 'Signature realm="api"' in answer.headers["www-authenticate"]
    assert '"content-digest"' in answer.headers["accept-signature"]
    assert answer.headers["vary"] == "Authorization, x-api-key, Signature-Input, Signature, Signature-Agent"
