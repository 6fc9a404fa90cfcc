"""A thousand replays of one signed request, over four server processes of three frameworks: it runs once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

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
  web_bot_auth: {{mode: enforce, agents: [{{origin: "https://agent.example", jwks_file: agent.json}}]}}
routes:
  - {{route: GET /health, public: true}}
  - {{route: GET /ran, public: true}}
  - {{route: POST /pay, capability: payments.pay, amount: {{from: body.amount}}}}
  - {{route: GET /stream, capability: reports.stream}}
rules: {{allow: [{{capability: "**", identity: verified}}]}}
"""
TALKS = POLICY.replace("rules:", "  - {route: WEBSOCKET /open, public: true}\nrules:")
BODY = b'{"amount": "5.00"}'
EACH = 250


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        yield SQLITE if request.param == "sqlite" else stack.enter_context(schema())


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))], indirect=True
)
def test_of_a_thousand_replays_over_four_processes_one_runs(tmp_path: Path, url: str) -> None:  # 57
    agent = Signer()
    (tmp_path / "agent.json").write_text(json.dumps(agent.jwks), encoding="utf-8")
    talks = Site(tmp_path, TALKS.replace(SQLITE, url))
    talks.policy = talks.policy.rename(tmp_path / "talks.yaml")
    site = Site(tmp_path, POLICY.replace(SQLITE, url))
    site.key("first")  # which makes the ledger
    with ExitStack() as stack:
        servers = [Server(talks), Server(talks, http="httptools"), Gunicorn(site), Served(site, "wsgi")]
        for server in servers:
            stack.enter_context(server)
        clients = [stack.enter_context(httpx.Client(base_url=server.base, timeout=PATIENCE)) for server in servers]
        for client in clients:
            assert client.get("/health").status_code == 200
        headers = agent.sign("POST", f"{API}/pay", BODY, now=int(time.time()))
        told = [("host", API.removeprefix("https://")), ("content-type", "application/json"), *headers]

        def send(number: int) -> tuple[int, int, str]:
            answer = clients[number % 4].post("/pay", headers=told, content=BODY)
            return number % 4, answer.status_code, answer.json().get("code", "")

        with ThreadPoolExecutor(32) as pool:
            answers = [*pool.map(send, range(4 * EACH))]
    assert Counter(place for place, *_ in answers) == dict.fromkeys(range(4), EACH)
    assert Counter((status, code) for _, status, code in answers) == {(200, ""): 1, (401, "identity.invalid"): 999}
    assert (tmp_path / "marks").read_text() == "pay 5.00\n"
