"""Replays of one signed request and payments of one session, over four server processes of three frameworks."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("http_message_signatures")

from tests.integrations.agents.sites import API
from tests.integrations.django.test_served import Served
from tests.integrations.gunicorn.served import Gunicorn
from tests.integrations.uvicorn.served import PATIENCE, Server, Site
from tests.ledger.servers import schema
from tests.signing import Signer

SQLITE = "sqlite:///fence.db"
POLICY = f"""
version: 1
service: test
ledger: {SQLITE}
identity:
  public_origins: [{API}]
  api_keys: {{store: ledger}}
  web_bot_auth: {{mode: enforce, agents: [{{origin: "https://agent.example", jwks_file: agent.json}}]}}
routes:
  - {{route: GET /health, public: true}}
  - {{route: GET /ran, public: true}}
  - {{route: POST /pay, capability: payments.pay, amount: {{from: body.amount}}}}
  - {{route: GET /stream, capability: reports.stream}}
rules: {{allow: [{{capability: "**", identity: token}}]}}
limits: [{{name: session, spend: 10 USD, window: session, per: session}}]
"""
TALKS = POLICY.replace("rules:", "  - {route: WEBSOCKET /open, public: true}\nrules:")
AGENT = Signer()
BODY = b'{"amount": "5.00"}'


LEDGERS = [SQLITE, pytest.param("postgres", marks=pytest.mark.service("postgresql"))]


@pytest.fixture(params=LEDGERS)
def four(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[httpx.Client]]:
    """Clients of four server processes of three frameworks, on one ledger."""
    (tmp_path / "agent.json").write_text(json.dumps(AGENT.jwks), encoding="utf-8")
    with ExitStack() as stack:
        url = SQLITE if request.param == SQLITE else stack.enter_context(schema())
        talks = Site(tmp_path, TALKS.replace(SQLITE, url))
        talks.policy = talks.policy.rename(tmp_path / "talks.yaml")
        site = Site(tmp_path, POLICY.replace(SQLITE, url))
        (tmp_path / "key").write_text(site.key("acme"), encoding="ascii")  # which makes the ledger
        servers: list[Server | Gunicorn | Served] = [Server(talks), Server(talks, http="httptools")]
        servers += [Gunicorn(site), Served(site, "wsgi")]
        for server in servers:
            stack.enter_context(server)
        clients = [stack.enter_context(httpx.Client(base_url=server.base, timeout=PATIENCE)) for server in servers]
        for client in clients:
            assert client.get("/health").status_code == 200
        yield clients


def answers(four: list[httpx.Client], count: int, headers: list[tuple[str, str]], body: bytes) -> Counter[Any]:
    """What so many payments at once are answered, by status and code."""
    told = [("host", API.removeprefix("https://")), ("content-type", "application/json"), *headers]

    def send(number: int) -> tuple[int, str]:
        answer = four[number % 4].post("/pay", headers=told, content=body)
        return answer.status_code, answer.json().get("code", "")

    with ThreadPoolExecutor(32) as pool:
        return Counter(pool.map(send, range(count)))


@pytest.mark.slow
def test_of_a_thousand_replays_over_four_processes_one_runs(four: list[httpx.Client], tmp_path: Path) -> None:  # 57
    headers = AGENT.sign("POST", f"{API}/pay", BODY, now=int(time.time()))
    assert answers(four, 1000, headers, BODY) == {(200, ""): 1, (401, "identity.invalid"): 999}
    assert (tmp_path / "marks").read_text() == "pay 5.00\n"


@pytest.mark.slow
def test_one_session_over_four_processes_stays_under_its_cap(four: list[httpx.Client], tmp_path: Path) -> None:  # 81
    key = ("x-api-key", (tmp_path / "key").read_text())
    handle = four[0].post("/.well-known/agent-fence/sessions", headers=[key]).json()["session"]
    found = answers(four, 80, [key, ("agent-session", handle)], b'{"amount": "1.00"}')
    assert found == {(200, ""): 10, (403, "spend.exceeded"): 70}
    assert (tmp_path / "marks").read_text() == "pay 1.00\n" * 10
