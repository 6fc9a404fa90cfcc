"""Two servers on one ledger, of which only one is told of another policy: it counts in both."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest

from afmiddleware.cli import main
from tests.integrations.uvicorn.served import PATIENCE, POLICY, Server, Site, headers

pytestmark = pytest.mark.anyio

SIGNALLED = POLICY.replace("service: test", "service: test\nreload: signal").replace("100 USD", "100000 USD")
DENIES = SIGNALLED.replace("rules:", "rules:\n  deny: [payments.pay]")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, SIGNALLED)


def until(server: Server, key: str, status: int) -> httpx.Response:
    """Pay until the answer is this."""
    end = time.monotonic() + PATIENCE
    while (answer := server.pay(key, "1.00")).status_code != status:
        assert time.monotonic() < end, answer.text
    return answer


async def test_a_signal_to_one_server_counts_at_the_next_request_of_the_other(site: Site) -> None:
    key = site.key("agent")
    with Server(site) as one, Server(site) as two:
        assert [one.pay(key, "1.00").status_code, two.pay(key, "1.00").status_code] == [200, 200]
        site.policy.write_text(DENIES, "utf-8")
        # Nobody was told: both go on with what they have.
        assert [one.pay(key, "1.00").status_code, two.pay(key, "1.00").status_code] == [200, 200]
        one.process.send_signal(signal.SIGHUP)
        assert until(one, key, 403).json()["code"] == "policy.denied"
        paid = (site.folder / "marks").read_text().count("pay")
        answer = two.pay(key, "1.00")
        assert (answer.status_code, answer.json()["code"]) == (403, "policy.denied")
        assert (site.folder / "marks").read_text().count("pay") == paid
    [changed] = site.bodies("policy")
    assert (changed["cause"], changed["generation"]) == ("reload", 2)
    assert {body["policy"] for body in site.bodies("refusal")} == {changed["policy"]}
    assert site.verified().status == "whole"


async def test_none_of_many_in_flight_is_decided_by_the_superseded_policy(site: Site) -> None:
    keys = [site.key(f"agent-{number}") for number in range(10)]
    with Server(site) as one, Server(site) as two:
        assert [one.pay(keys[0], "1.00").status_code, two.pay(keys[0], "1.00").status_code] == [200, 200]
        site.policy.write_text(DENIES, "utf-8")
        denied = asyncio.Event()

        async def pay(client: httpx.AsyncClient, base: str, key: str) -> None:
            """Pay until some request was denied, and once more."""
            last = False
            while not last:
                last = denied.is_set()
                answer = await client.post(base + "/pay", headers=headers(key), content=b'{"amount": "1.00"}')
                assert answer.status_code in (200, 403), answer.text
                if answer.status_code == 403:
                    denied.set()

        async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=60)) as client:
            paying = [
                asyncio.create_task(pay(client, server.base, keys[place % len(keys)]))
                for place in range(50)
                for server in ((one, two)[place % 2],)
            ]
            one.process.send_signal(signal.SIGHUP)
            await asyncio.gather(*paying)
    bodies = site.bodies()
    [at] = [place for place, body in enumerate(bodies) if body["kind"] == "policy"]
    after = [body for body in bodies[at + 1 :] if body["kind"] in ("intent", "refusal")]
    assert {body["policy"] for body in after} == {bodies[at]["policy"]}
    assert "intent" not in {body["kind"] for body in after}
    assert site.verified().status == "whole"


async def test_a_server_whose_file_is_another_is_out_until_it_is_released(site: Site) -> None:
    key = site.key("agent")
    other = site.folder / "other.yaml"
    other.write_text(DENIES, "utf-8")

    def policy(*words: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *words])
        return ended.value.code

    with Server(site) as server:
        assert server.pay(key, "1.00").status_code == 200
        assert policy("activate", "--policy", str(other)) == 0
        answer = server.pay(key, "1.00")
        assert (answer.status_code, answer.json()["code"]) == (503, "policy.unavailable")
        assert answer.headers["retry-after"]
        assert server.get("/health").status_code == 200
        assert policy("status", "--policy", str(site.policy)) == 1
        site.policy.write_text(DENIES, "utf-8")
        assert until(server, key, 403).json()["code"] == "policy.denied"
        assert policy("status", "--policy", str(site.policy)) == 0
        assert policy("release", "--policy", str(other)) == 0
    with Server(site) as server:
        assert server.pay(key, "1.00").status_code == 403
