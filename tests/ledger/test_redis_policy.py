"""`rates: redis://...` in a policy: what a service, a caller and an operator see of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.errors import ConfigError, LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from tests.ledger.redis_process import RedisProcess
from tests.unit.cli import conftest as command

afm = command.afm
pytestmark = pytest.mark.service("redis")
LIMITS = "  - {name: often, rate: 3/minute}\n  - {name: crowd, concurrent: 1}\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    made = RedisProcess(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def policy(tmp_path: Path, server: RedisProcess) -> Path:
    place = command.written(tmp_path, LIMITS)
    place.write_text(place.read_text() + f"rates: {server.url()}\n")
    return place


def act(fence: Fence) -> str:
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse("1 USD")
    )
    try:
        with fence.action(event):
            return "ran"
    except ActionRefused as refusal:
        return f"{refusal.verdict.code} {refusal.verdict.retry_after}"


def until_back(fence: Fence) -> str:
    told = "ledger.unavailable 1"
    while told == "ledger.unavailable 1":
        told = act(fence)
    return told


def test_a_service_counts_there_and_the_operator_sees_it(afm, policy):
    with closing(Fence.from_file(policy, env={})) as fence:
        assert [act(fence), act(fence)] == ["ran", "ran"]
        # What was posted is done before this is answered.
        fence.release("nothing")
        whole = afm("budget", "local:agent-7", "--policy", policy, "--json").json
        told = {one["limit"]: one for one in whole["limits"]}
        assert (told["often"]["used"], told["crowd"]["used"]) == ("2", "0")


def test_a_service_does_not_start_with_a_server_that_drops_keys(policy, server):
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lfu")
    with pytest.raises(LedgerUnavailableError, match="set maxmemory-policy to noeviction"):
        Fence.from_file(policy, env={})


def test_rates_beside_a_ledger_in_memory_are_refused(policy):
    with pytest.raises(ConfigError, match="rates in Redis stand beside a ledger that outlives its process"):
        Fence.from_file(policy, env={"AFM_LEDGER": "memory"})


def test_nothing_runs_on_doubt_until_the_operator_takes_it(afm, policy, server):
    with closing(Fence.from_file(policy, env={})) as fence:
        assert act(fence) == "ran"
        server.kill()
        assert act(fence) == "ledger.unavailable 1"
        server.start()
        code, wait = until_back(fence).split()
        assert code == "ledger.unavailable"
        assert 50 < int(wait) <= 60
        assert afm("limits", "reopen", "--policy", policy, "--reason", "planned").out == "what was closed is open\n"
        assert act(fence) == "ran"
        kinds = [str(one.columns["kind"]) for one in fence.ledger.receipts(Filter(kind="operation"))]
        # The new beginning, and whose word opened it.
        assert kinds == ["operation", "operation"]
