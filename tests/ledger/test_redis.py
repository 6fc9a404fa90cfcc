"""Rates and slots that hosts share in Redis, and every way it can fail them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.model import Held, Limit, Settlement, Unit, Window
from afmiddleware.model.entry import Order
from afmiddleware.model.receipt import ReceiptRef
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ALLOW, crowd, ending, entry, rate, spend
from tests.ledger.proxy import Proxy
from tests.ledger.redis_hosts import BURST, Hosts, admit, until_back, used
from tests.ledger.redis_process import RedisProcess
from tests.ledger.servers import rates

if TYPE_CHECKING:
    from afmiddleware.ledger.sqlite import SqliteLedger

pytestmark = pytest.mark.service("redis")
CROWD, TOTAL = crowd(1), Window("total")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    made = RedisProcess(tmp_path)
    yield made
    made.send(signal.SIGCONT)
    made.kill()


@pytest.fixture
def hosts(server: RedisProcess, tmp_path: Path, clock: FrozenClock) -> Iterator[Hosts]:
    with closing(Hosts(tmp_path, server.url(), clock)) as hosts:
        yield hosts


def test_hosts_share_what_they_count(hosts: Hosts) -> None:
    here, there = hosts.host("here"), hosts.host("there")
    assert [admit(one, f"d{n}") for n, one in enumerate((here, there, here))] == [
        "policy.allowed",
        "policy.allowed",
        "rate.exceeded",
    ]
    assert used(there) == 2


def test_hosts_whose_clocks_disagree_admit_exactly_the_cap(server: RedisProcess, tmp_path: Path) -> None:
    burst = rate(100, 3600, per="global")
    early, late = FrozenClock(), FrozenClock()
    early.advance(-3601)
    late.advance(3601)
    with closing(Hosts(tmp_path, server.url(), None)) as hosts:
        ledgers = [hosts.host("early", early), hosts.host("late", late)]
        codes: list[str] = []

        def ask(which: int) -> None:
            codes.extend(admit(ledgers[which % 2], f"d{which}-{n}", burst) for n in range(20))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes.count("policy.allowed") == 100
    assert codes.count("rate.exceeded") == 100


def test_a_server_that_is_not_there_is_unavailable_at_the_start(server: RedisProcess) -> None:
    server.kill()
    with pytest.raises(LedgerUnavailableError, match="did not answer"):
        rates(server.url()).check()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_drops_keys_is_not_started_with(server: RedisProcess, policy: str) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", policy)
    with pytest.raises(LedgerUnavailableError, match=f"{policy}.*set maxmemory-policy to noeviction"):
        rates(server.url()).check()


def test_a_replica_is_not_started_with(server: RedisProcess) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)
    with pytest.raises(LedgerUnavailableError, match="is a replica"):
        rates(server.url()).check()


def test_a_fault_never_shows_the_password(server: RedisProcess) -> None:
    with server.client() as client:
        client.config_set("requirepass", "another")
    with pytest.raises(LedgerUnavailableError) as caught:
        rates(server.url().replace("redis://", "redis://:hunter2@")).check()
    assert "hunter2" not in str(caught.value)


def test_only_what_is_counted_there_waits_for_it(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    begun = entry("d1", BURST, CROWD, spend(1000, TOTAL), amount=100)
    held = ledger.commit(begun)
    assert isinstance(held, Held)
    server.kill()
    assert admit(ledger, "d2") == "unavailable 1"
    assert admit(ledger, "d3", spend(1000, TOTAL), amount=100) == "policy.allowed"
    closed = ledger.commit(ending(begun, held, Settlement.RELEASE))
    assert closed.booked  # type: ignore[union-attr]
    assert [name for name, _ in ledger.holds()] == ["d3"]


def test_a_server_that_was_started_empty_admits_nobody_twice(
    server: RedisProcess, hosts: Hosts, clock: FrozenClock
) -> None:
    ledger, second = hosts.host(), rate(2, 1, name="second")
    for n in range(2):
        assert admit(ledger, f"d{n}", BURST) == "policy.allowed"
    server.kill()
    server.start()
    assert until_back(ledger) == "closed 60"
    assert admit(ledger, "c1", second) == "unavailable 1"
    clock.advance(1)
    assert admit(ledger, "c2", second) == "policy.allowed"
    clock.advance(58)
    assert admit(ledger, "c3") == "unavailable 1"
    clock.advance(1)
    assert [admit(ledger, f"e{n}") for n in range(3)] == ["policy.allowed", "policy.allowed", "rate.exceeded"]


def test_a_host_that_was_away_when_it_was_emptied_finds_out(server: RedisProcess, hosts: Hosts) -> None:
    hosts.host("away").close()
    with closing(hosts.host("before")) as before:
        assert admit(before, "d1") == "policy.allowed"
    server.kill()
    server.start()
    assert until_back(hosts.host("before")) == "closed 60"


def test_a_new_host_does_not_hide_what_was_lost(server: RedisProcess, hosts: Hosts) -> None:
    old = hosts.host("old")
    assert admit(old, "d1") == "policy.allowed"
    server.kill()
    server.start()
    # It knows nothing of a time before, and counts.
    new = hosts.host("new")
    assert admit(new, "d2") == "policy.allowed"
    assert until_back(old) == "closed 60"
    assert admit(new, "d3") == "unavailable 60"


@pytest.mark.parametrize("how", ["started anew", "emptied"])
def test_a_host_that_rests_tells_a_new_one_of_what_was_lost(server: RedisProcess, hosts: Hosts, how: str) -> None:
    old, new = hosts.host("old"), hosts.host("new")
    assert admit(old, "d1") == "policy.allowed"
    if how == "emptied":
        with server.client() as client:
            client.flushall()
    else:
        server.kill()
        server.start()
    assert admit(new, "n") == "policy.allowed"
    with old._committer._wake:
        old._committer._rests = 0.01
        old._committer._wake.notify()
    told = ["policy.allowed"]
    while told[-1] in ("policy.allowed", "rate.exceeded"):
        told.append(admit(new, f"n{len(told)}", rate(1_000_000)))
    assert told[-1] == "unavailable 60"


def test_several_that_begin_at_once_are_open(hosts: Hosts) -> None:
    ledgers = [hosts.host(f"h{n}") for n in range(4)]
    codes: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one, n=n: codes.append(admit(one, f"d{n}", rate(4))))
        for n, one in enumerate(ledgers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["policy.allowed"] * 4


def test_all_keys_dropped_by_hand_close_what_they_counted(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    assert admit(ledger, "d1") == "policy.allowed"
    with server.client() as client:
        client.flushall()
    assert until_back(ledger) == "closed 60"


def test_a_server_that_took_over_is_not_trusted_with_the_last_it_was_told(
    server: RedisProcess, hosts: Hosts, tmp_path: Path, clock: FrozenClock
) -> None:
    (tmp_path / "replica").mkdir()
    replica = RedisProcess(tmp_path / "replica")
    try:
        ledger = hosts.host()
        assert admit(ledger, "d1") == "policy.allowed"
        with replica.client() as client, server.client() as master:
            client.replicaof("127.0.0.1", server.port)
            while client.info("replication")["master_link_status"] != "up":
                pass
            assert master.wait(1, 5000) == 1
            server.kill()
            client.replicaof("no", "one")
            client.config_set("port", server.port)
        assert until_back(ledger) == "closed 60"
        clock.advance(66)
        assert [admit(ledger, f"e{n}") for n in range(3)] == ["policy.allowed", "policy.allowed", "rate.exceeded"]
    finally:
        replica.kill()


def test_the_operator_may_open_what_is_closed(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    assert admit(ledger, "d1") == "policy.allowed"
    server.kill()
    server.start()
    assert until_back(ledger) == "closed 60"
    rates(server.url()).accept()
    assert admit(ledger, "d2") == "policy.allowed"


def test_scripts_that_are_forgotten_are_told_again(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    assert admit(ledger, "d1") == "policy.allowed"
    with server.client() as client:
        client.script_flush()
    assert [admit(ledger, "d2"), admit(ledger, "d3")] == ["policy.allowed", "rate.exceeded"]


@pytest.mark.parametrize("cut", ["sent", "done"])
def test_a_lost_answer_is_asked_for_again_and_counted_once(server: RedisProcess, hosts: Hosts, cut: str) -> None:
    proxy = Proxy(f"redis://127.0.0.1:{server.port}", b"EVALSHA")
    with closing(proxy):
        ledger = hosts.host(url=proxy.url(server.url()))
        assert admit(ledger, "d1", BURST, CROWD) == "policy.allowed"
        ledger.commit(ending(entry("d1"), _held("d1")))
        proxy.cut = cut
        assert admit(ledger, "d2", BURST, CROWD) == "policy.allowed"
        assert proxy.cuts == 1
        assert used(ledger) == 2
        ledger.commit(ending(entry("d2"), _held("d2")))
        assert _running(ledger) == 0


def test_a_server_that_hangs_is_not_waited_for_and_found_again(
    server: RedisProcess, hosts: Hosts, clock: FrozenClock
) -> None:
    ledger = hosts.host(url=server.url("200ms"))
    assert admit(ledger, "d1", rate(3), CROWD) == "policy.allowed"
    ledger.commit(ending(entry("d1"), _held("d1")))
    server.send(signal.SIGSTOP)
    assert admit(ledger, "d2", rate(3), CROWD) == "unavailable 1"
    server.send(signal.SIGCONT)
    # What it did in the meantime may have been counted, and no slot stays taken for it.
    assert until_back(ledger, CROWD) == "policy.allowed"
    assert 1 <= used(ledger, rate(3)) <= 3


def test_a_server_whose_memory_is_full_counts_nothing(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    assert admit(ledger, "d1") == "policy.allowed"
    with server.client() as client:
        client.config_set("maxmemory", 1)
        assert admit(ledger, "d2") == "unavailable 1"
        client.config_set("maxmemory", 0)
    assert until_back(ledger) == "policy.allowed"
    assert used(ledger) == 2


def test_a_server_that_begins_to_drop_keys_is_noticed(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    shared = ledger._rates
    assert shared is not None
    assert admit(ledger, "d1") == "policy.allowed"
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        shared._server._looked = -1e9
        assert admit(ledger, "d2") == "unavailable 1"
        client.config_set("maxmemory-policy", "noeviction")
    assert until_back(ledger) == "closed 60"


def test_a_ledger_that_fails_after_it_was_counted_gives_everything_back(hosts: Hosts, tmp_path: Path) -> None:
    import sqlite3

    ledger = hosts.host()
    limits = (rate(5), CROWD, spend(1000, TOTAL))
    assert admit(ledger, "first", rate(5)) == "policy.allowed"
    other = sqlite3.connect(tmp_path / "one" / "fence.db", isolation_level=None)
    with closing(other):
        other.execute("ALTER TABLE hold RENAME TO elsewhere")
        assert admit(ledger, "d1", *limits, amount=10) == "unavailable 1"
        other.execute("ALTER TABLE elsewhere RENAME TO hold")
    assert used(ledger, rate(5)) == 1
    assert admit(ledger, "d2", *limits, amount=10) == "policy.allowed"


def test_what_the_ledger_refuses_frees_its_slot_and_stays_counted(hosts: Hosts) -> None:
    from msgspec.structs import replace

    ledger, some = hosts.host(), replace(rate(5, name="some"), admitted=True)
    assert admit(ledger, "d1", rate(5), some, CROWD, spend(10, TOTAL), amount=50) == "spend.exceeded"
    assert (used(ledger, rate(5)), used(ledger, some), _running(ledger)) == (1, 0, 0)


@pytest.mark.parametrize(("cap", "override", "admitted"), [(1, False, 1), (3, False, 2), (3, True, 3)])
def test_a_cap_of_the_operator_holds_at_the_next_commit(hosts: Hosts, cap: int, override: bool, admitted: int) -> None:
    ledger = hosts.host()
    assert admit(ledger, "other", owner="key:b") == "policy.allowed"
    ledger.commit(Order(what="cap", key="actor:key:a", name="burst", value=cap, override=override))
    codes = [admit(ledger, f"d{n}") for n in range(4)]
    assert codes == ["policy.allowed"] * admitted + ["rate.exceeded"] * (4 - admitted)
    ledger.commit(Order(what="uncap", key="actor:key:a", name="burst"))
    assert admit(ledger, "e") == ("policy.allowed" if admitted < 2 else "rate.exceeded")


def test_slots_of_a_host_that_is_gone_are_free_after_its_lease(hosts: Hosts, clock: FrozenClock) -> None:
    gone, here = hosts.host("gone"), hosts.host("here")
    assert admit(gone, "g", CROWD) == "policy.allowed"
    for _ in range(2):
        clock.advance(14)
        assert admit(here, f"h{clock()}", CROWD) == "concurrency.exceeded"
    clock.advance(3)
    assert admit(here, "h", CROWD) == "policy.allowed"
    # It was only stopped: what it ends now frees nobody else's slot.
    gone.commit(ending(entry("g"), _held("g")))
    assert admit(here, "i", CROWD) == "concurrency.exceeded"


def test_a_host_that_rests_keeps_its_slots_and_one_that_ends_frees_them(hosts: Hosts, clock: FrozenClock) -> None:
    quiet, here = hosts.host("quiet"), hosts.host("here")
    assert admit(quiet, "q", CROWD) == "policy.allowed"
    committer, shared = quiet._committer, quiet._rates
    assert shared is not None
    with committer._wake:
        committer._rests = 0.01
        committer._wake.notify()
    for n in range(3):
        clock.advance(25)
        while shared.now < clock():
            pass
        assert admit(here, f"h{n}", CROWD) == "concurrency.exceeded"
    quiet.close()
    assert admit(here, "after", CROWD) == "policy.allowed"


def test_what_runs_while_the_counters_are_lost_keeps_its_slot(
    server: RedisProcess, hosts: Hosts, clock: FrozenClock
) -> None:
    ledger = hosts.host()
    assert admit(ledger, "runs", CROWD) == "policy.allowed"
    server.kill()
    server.start()
    assert until_back(ledger, CROWD) == "closed 30"
    clock.advance(30)
    assert admit(ledger, "d1", CROWD) == "concurrency.exceeded"
    ledger.commit(ending(entry("runs"), _held("runs")))
    assert admit(ledger, "d2", CROWD) == "policy.allowed"


def test_a_counter_goes_once_nothing_of_it_counts(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    pace = Limit(name="pace", unit=Unit.RATE, cap=1, quota=10**6, window=Window("pacing", 1), cell="pace/p")
    assert admit(ledger, "d1", BURST, CROWD, pace) == "policy.allowed"
    with server.client() as client:
        left = {key: client.pttl(key) for key in client.scan_iter()}
    kept = [ms for key, ms in left.items() if not key.endswith((b":epoch", b":leases"))]
    assert len(kept) == 4
    assert all(0 < ms <= 7 * 86_400_000 for ms in kept)
    assert min(sorted(kept)[1:]) > 3_590_000


def test_no_name_is_shown_and_no_two_names_share_a_counter(server: RedisProcess, hosts: Hosts) -> None:
    ledger = hosts.host()
    names = ["key:{t}", "key:t}:x", "key:a\n\0", "key:\u00e9", "k" * 10_000]
    for n, name in enumerate(names):
        assert admit(ledger, f"d{n}", rate(1), owner=name) == "policy.allowed"
        assert admit(ledger, f"e{n}", rate(1), owner=name) == "rate.exceeded"
    with server.client() as client:
        assert all(key.startswith(b"t:{t}:") and key[6:].isalnum() for key in client.scan_iter() if b"last:" not in key)


def _held(name: str) -> Held:
    return Held(ALLOW, ReceiptRef("", 1, b""))


def _running(ledger: SqliteLedger) -> int:
    row = ledger.rows(["actor:key:a"])["actor:key:a"]
    return sum(row.more.busy.get(CROWD.cell, {}).values()) if row.more is not None else 0
