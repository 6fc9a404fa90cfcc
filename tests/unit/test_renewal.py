"""A policy that another process has superseded: read again once, and decided by again, or nothing is decided."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from afmiddleware import ActionEvent
from afmiddleware.config.load import load
from afmiddleware.declare import capability, declared
from afmiddleware.errors import ActionRefusedError, StalePolicyError
from afmiddleware.fence import Fence
from afmiddleware.identity.needs import NeedKey, NeedOnce
from afmiddleware.ledger.base import Filter, Ledger
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.ledger.orders import RELEASE
from afmiddleware.limits.stops import CONTROL
from afmiddleware.mapping.coverage import Endpoint, Listing
from afmiddleware.model import Actor, Money, Tier
from afmiddleware.model.entry import InForce, Order
from afmiddleware.performing import FenceIo, FirstUses
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.renewal import SUPERSEDED
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry

POLICY = """
version: 1
service: shop
ledger: {ledger}
mode: {mode}
reload: "{reload}"
routes: [{{route: POST /pay, capability: shop.pay, amount: 1 USD}}]
rules: {{allow: [shop.*], deny: [{denied}]}}
"""


def policy(denied: str = "none", mode: str = "enforce", reload: str = "signal", ledger: str = "memory") -> str:
    return POLICY.format(denied=denied, mode=mode, reload=reload, ledger=ledger)


def action(actor: str = "key:a") -> ActionEvent:
    return ActionEvent(actor=Actor(id=actor, tier=Tier.TOKEN), capability="shop.pay", amount=Money(100, "USD", 2))


def acts(fence: Fence) -> str:
    """The reason code of an action."""
    try:
        with fence.action(action()) as running:
            return running.verdict.code
    except ActionRefusedError as error:
        return error.verdict.code


class Hosts:
    """Two processes, each with a file of its own, on one ledger. Both have decided by the same policy."""

    def __init__(self, folder: Path, text: str) -> None:
        self.clock = FrozenClock()
        self.ledger: Ledger = MemoryLedger(ReceiptKeys.derive(bytes(32)), self.clock, bytes)
        self.files = [folder / "one.yaml", folder / "two.yaml"]
        for file in self.files:
            file.write_text(text, "utf-8")
        self.one, self.two = (
            Fence.from_file(file, env={}, ledger=self.ledger, clock=self.clock) for file in self.files
        )
        assert [acts(self.one), acts(self.two)] == ["policy.allowed"] * 2

    def change(self, text: str, *, on_both: bool = True) -> None:
        """Change the file; only the first process looks."""
        for file in self.files[: 2 if on_both else 1]:
            file.write_text(text, "utf-8")
        assert self.one.reload()

    def bodies(self, kind: str = "") -> list[dict[str, Any]]:
        return [strict_parse(one.receipt.body) for one in self.ledger.receipts(Filter(kind=kind))]

    def close(self) -> None:
        self.one.close()
        self.two.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path, policy())
    yield made
    made.close()


def test_a_tightened_policy_counts_at_the_next_action_of_every_process(hosts: Hosts):
    old = hosts.two.plan.digest
    hosts.change(policy("shop.pay"))
    assert hosts.two.plan.digest == old
    assert acts(hosts.two) == "policy.denied"
    assert hosts.two.plan.digest == hosts.one.plan.digest != old
    assert hosts.two.standing.healthy
    assert [one["policy"] for one in hosts.bodies("refusal")] == [hosts.one.plan.digest]
    assert len(hosts.bodies("policy")) == 1


def test_a_process_that_has_not_decided_yet_is_told_too(tmp_path: Path):
    """Whoever has fitted its application to the policy is at work."""
    hosts = Hosts(tmp_path, policy())
    third = Fence.from_file(hosts.files[0], env={}, ledger=hosts.ledger, clock=hosts.clock)
    third.adopt(Listing(endpoints=(Endpoint(method="POST", template="/pay", methods=("POST",), name="pay"),)))
    for file in hosts.files:
        file.write_text(policy("shop.pay"), "utf-8")
    assert third.reload()
    assert [acts(hosts.one), acts(hosts.two)] == ["policy.denied"] * 2
    hosts.close()


def test_routes_that_are_added_supersede_nothing(hosts: Hosts):
    @capability("shop.sell")
    def sell() -> None: ...

    plain = Endpoint(method="POST", template="/pay", methods=("POST",), name="pay")
    more = Endpoint(method="POST", template="/sell", methods=("POST",), name="sell", declaration=declared(sell))
    hosts.one.adopt(Listing(endpoints=(plain, more)))
    assert hosts.one.plan.digest != hosts.two.plan.digest
    assert [acts(hosts.one), acts(hosts.two)] == ["policy.allowed"] * 2


def test_a_file_that_is_behind_decides_nothing_until_it_is_the_new_one(hosts: Hosts, caplog: pytest.LogCaptureFixture):
    hosts.change(policy("shop.pay"), on_both=False)
    size = hosts.ledger.head().size
    assert [acts(hosts.two) for _ in range(3)] == ["policy.unavailable"] * 3
    assert hosts.ledger.head().size == size
    standing = hosts.two.standing
    assert (standing.healthy, standing.superseded_by, standing.generation) == (False, hosts.one.plan.file, 2)
    [said] = [one.getMessage() for one in caplog.records if one.levelno == logging.CRITICAL]
    assert f"policy {hosts.two.plan.file[:16]} is superseded by {hosts.one.plan.file[:16]} (generation 2)" in said
    assert "two.yaml still says the same" in said
    assert "afmiddleware policy activate" in said
    # Looking only is no decision.
    assert hosts.two.decide(action()).authorized
    hosts.files[1].write_text(policy("shop.pay"), "utf-8")
    # It is not read for every request.
    assert acts(hosts.two) == "policy.unavailable"
    hosts.clock.advance(1)
    assert hosts.two._renewal.behind
    assert acts(hosts.two) == "policy.denied"
    assert hosts.two.standing.healthy
    assert not hosts.two._renewal.behind


def test_a_wrong_file_decides_nothing_either(hosts: Hosts, caplog: pytest.LogCaptureFixture):
    hosts.change(policy("shop.pay"), on_both=False)
    hosts.files[1].write_text(policy() + "rulez: []\n", "utf-8")
    assert acts(hosts.two) == "policy.unavailable"
    assert "rulez" in hosts.two.standing.problems[0]
    assert "two.yaml is wrong now: nothing is decided here" in caplog.text
    hosts.files[1].unlink()
    hosts.clock.advance(1)
    assert acts(hosts.two) == "policy.unavailable"


def test_there_and_back_again(hosts: Hosts):
    """A file on one host that is changed, and changed back, while the other one did not look."""
    hosts.change(policy("shop.pay"), on_both=False)
    assert acts(hosts.two) == "policy.unavailable"
    hosts.change(policy(), on_both=False)
    assert acts(hosts.two) == "policy.allowed"
    assert hosts.two.standing.healthy


def test_without_reloading_nothing_is_decided_by_what_is_superseded(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    hosts = Hosts(tmp_path, policy(reload="off"))
    for file in hosts.files:
        file.write_text(policy("shop.pay", reload="off"), "utf-8")
    # Nobody has taken up anything: everybody decides by what it was started with.
    assert [acts(hosts.one), acts(hosts.two)] == ["policy.allowed"] * 2
    assert hosts.one.reload()
    assert [acts(hosts.one), acts(hosts.two)] == ["policy.denied", "policy.unavailable"]
    assert "(reload: off), so the process has to be restarted" in caplog.text
    hosts.close()


def test_a_fence_made_in_code_cannot_read_again(hosts: Hosts, caplog: pytest.LogCaptureFixture):
    made = Fence(load(policy()), ledger=hosts.ledger, clock=hosts.clock)
    assert made.plan.file == hosts.one.plan.file
    assert acts(made) == "policy.allowed"
    hosts.change(policy("shop.pay"))
    assert acts(made) == "policy.unavailable"
    assert "it was not made from a file" in caplog.text
    made.close()


def test_what_only_observes_passes_and_is_flagged(tmp_path: Path):
    hosts = Hosts(tmp_path, policy(mode="observe"))
    hosts.change(policy("shop.pay"), on_both=False)
    assert [acts(hosts.two) for _ in range(2)] == ["policy.allowed"] * 2
    hosts.clock.advance(1)
    assert acts(hosts.two) == "policy.allowed"
    flags = [(one["mode"], one["flags"]) for one in hosts.bodies("intent")]
    assert flags == [("observe", [])] * 2 + [("observe", [SUPERSEDED])] * 3
    assert not hosts.two.standing.healthy
    hosts.files[1].write_text(policy("shop.pay"), "utf-8")
    hosts.clock.advance(1)
    # From observing to enforcing, at the next action.
    assert acts(hosts.two) == "policy.denied"
    hosts.close()


@pytest.mark.anyio
async def test_what_only_observes_passes_in_async_code(tmp_path: Path):
    hosts = Hosts(tmp_path, policy(mode="observe"))
    hosts.change(policy("shop.pay"), on_both=False)
    for _ in range(2):
        async with hosts.two.action(action()) as running:
            assert running.verdict.authorized
    assert [one["flags"] for one in hosts.bodies("intent")[2:]] == [[SUPERSEDED]] * 2
    hosts.close()


def test_of_a_share_that_is_observed_only_that_passes(tmp_path: Path):
    hosts = Hosts(tmp_path, policy(mode="observe 50%"))
    hosts.change(policy("shop.pay"), on_both=False)
    codes = set()
    for number in range(40):
        event = action(f"key:{number}")
        observed = hosts.two.plan.facing(event.actor).observe
        try:
            with hosts.two.action(event):
                codes.add((observed, "ran"))
        except ActionRefusedError as error:
            codes.add((observed, error.verdict.code))
    assert codes == {(True, "ran"), (False, "policy.unavailable")}
    hosts.close()


def test_a_pinned_policy_keeps_others_out_and_its_release_lets_them_in(
    hosts: Hosts, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = hosts.one.plan.file
    hosts.ledger.commit(InForce(file, "enforce", "activate", "ops", file=file))
    (tmp_path / "three.yaml").write_text(policy("shop.sell"), "utf-8")
    third = Fence.from_file(tmp_path / "three.yaml", env={}, ledger=hosts.ledger, clock=hosts.clock)
    assert [acts(hosts.one), acts(third)] == ["policy.allowed", "policy.unavailable"]
    assert "the only one that may decide" in caplog.text
    assert third.standing.superseded_by == file
    hosts.ledger.commit(Order(what=RELEASE, key=CONTROL, name=file, by="ops"))
    assert acts(third) == "policy.allowed"
    assert third.standing.healthy
    assert "decides again" in caplog.text
    third.close()


@pytest.mark.anyio
async def test_requests_that_wait_read_it_once_and_the_loop_goes_on(hosts: Hosts, caplog: pytest.LogCaptureFixture):
    """Fifty at once under one reading, while that is held up: nothing on the loop waits for it."""
    caplog.set_level(logging.WARNING)
    hosts.change(policy("shop.pay"))
    caplog.clear()

    async def one() -> str:
        try:
            async with hosts.two.action(action()):
                return "ran"
        except ActionRefusedError as error:
            return error.verdict.code

    with hosts.two._changing:
        waiting = [asyncio.create_task(one()) for _ in range(50)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        # Who goes away takes the reading from nobody.
        waiting[0].cancel()
        await asyncio.sleep(0)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == ["policy.denied"] * 49
    assert len([one for one in caplog.records if "is in force from here on" in one.message]) == 1


@pytest.mark.anyio
async def test_none_is_decided_by_what_was_superseded_before_its_commit(tmp_path: Path):
    """Requests in flight over a ledger that commits in batches while the policy changes under them."""
    text = policy(ledger=f"sqlite:///{tmp_path}/fence.db")
    file = tmp_path / "fence.yaml"
    file.write_text(text, "utf-8")
    one, two = Fence.from_file(file, env={}), Fence.from_file(file, env={})
    old = one.plan.digest
    told: list[str] = []

    async def act(fence: Fence) -> None:
        try:
            async with fence.action(action()):
                told.append("ran")
        except ActionRefusedError as error:
            told.append(error.verdict.code)

    await asyncio.gather(*(act(fence) for fence in (one, two)))
    running = [asyncio.create_task(act(fence)) for _ in range(25) for fence in (one, two)]
    file.write_text(policy("shop.pay", ledger=f"sqlite:///{tmp_path}/fence.db"), "utf-8")
    changing = asyncio.create_task(asyncio.to_thread(one.reload))
    while not changing.done():
        running += [asyncio.create_task(act(fence)) for fence in (one, two)]
        await asyncio.sleep(0)
    running += [asyncio.create_task(act(fence)) for fence in (one, two)]
    await asyncio.gather(*running)
    bodies = [strict_parse(stored.receipt.body) for stored in one.ledger.receipts(Filter())]
    [at] = [place for place, body in enumerate(bodies) if body["kind"] == "policy"]
    assert old not in [body["policy"] for body in bodies[at + 1 :] if body["kind"] in ("intent", "refusal")]
    kinds = [body["kind"] for body in bodies]
    assert {one: told.count(one) for one in set(told)} == {
        "ran": kinds.count("intent"),
        "policy.denied": kinds.count("refusal"),
    }
    one.close()
    two.close()


def test_a_child_that_is_forked_off_reads_for_itself(hosts: Hosts):
    hosts.change(policy("shop.pay"))
    child = os.fork()
    if not child:
        os._exit(0 if acts(hosts.two) == "policy.denied" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_waits_for_no_reading_of_its_parent(hosts: Hosts):
    made = Fence(load(policy()), ledger=hosts.ledger, clock=hosts.clock)
    assert acts(made) == "policy.allowed"
    hosts.change(policy("shop.pay"))
    made._renewal._reading = Future()
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if acts(made) == "policy.unavailable" else 1)
    assert os.waitpid(child, 0)[1] == 0
    made.close()


def test_what_may_be_used_once_is_still_the_first_when_its_request_is_decided_again():
    once, other = NeedOnce("dpop:1", 1), NeedKey("k")
    uses = FirstUses()
    assert not uses.known(once)
    assert uses.note(once, True)
    # Twice in one request is twice.
    assert not uses.known(once)
    uses.again()
    assert uses.known(once)
    assert not uses.known(once)
    uses.again()
    assert uses.known(once)
    assert not uses.known(other)
    assert uses.note(NeedOnce("dpop:2", 1), False) is False
    uses.again()
    assert not uses.known(NeedOnce("dpop:2", 1))


def test_a_proof_is_asked_about_once_for_a_request(hosts: Hosts):
    io = FenceIo(hosts.one)
    need = NeedOnce("dpop:1", 10**12)
    assert io.resolve(need)
    io.again()
    assert io.resolve(need)
    assert not FenceIo(hosts.one).resolve(need)


def test_an_error_that_nobody_handles_names_both(hosts: Hosts):
    hosts.change(policy("shop.pay"))
    with pytest.raises(StalePolicyError, match=r"is superseded by .* \(generation 2\)"):
        hosts.two.ledger.commit(_entry(hosts.two))


def _entry(fence: Fence) -> Any:
    return replace(entry("d1"), policy=fence.plan.file)
