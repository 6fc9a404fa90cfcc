"""What the PostgreSQL ledger does when its server, its peers or the network fail it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afmiddleware import ActionEvent, Fence
from afmiddleware.errors import ActionRefusedError, LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Held, Settlement, Window
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import verify
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ending, entry, spend
from tests.ledger.proxy import Proxy
from tests.ledger.servers import POSTGRES, admin, postgres, schema

if TYPE_CHECKING:
    from afmiddleware.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.service("postgresql")
TOTAL = Window("total")
CELL = "budget/total/USD"


@pytest.fixture
def url() -> Iterator[str]:
    with schema() as made:
        yield made


def admit(ledger: PostgresLedger, name: str, amount: int = 100, cap: int = 10_000, owner: str = "key:a") -> Held:
    held = ledger.commit(entry(name, spend(cap, TOTAL), amount=amount, owner=owner))
    assert isinstance(held, Held)
    return held


def used(ledger: PostgresLedger, key: str = "actor:key:a") -> int:
    row = ledger.rows([key]).get(key)
    return row.cells[CELL].total if row is not None and CELL in row.cells else 0


def whole(ledger: PostgresLedger) -> int:
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert report.code == ""
    return report.open


def name_of(url: str) -> str:
    return url.partition("schema=")[2].partition("&")[0]


def kill_connections(url: str) -> int:
    """End every connection of the ledger at `url`, as a restart of the server does."""
    with admin() as connection:
        found = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = %s",
            (name_of(url),),
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_what_was_committed_is_there_when_it_is_opened_again(url: str) -> None:
    with closing(postgres(url)) as first:
        held = admit(first, "d1")
    with closing(postgres(url)) as again:
        assert again.head().size == 1
        assert again.head().leaf == (held.receipt.leaf if held.receipt else b"")
        assert admit(again, "d2", 9_900).verdict.authorized
        assert not admit(again, "d3", 1).verdict.authorized


def test_a_restart_of_the_server_between_requests_is_not_noticed(url: str) -> None:
    with closing(postgres(url)) as ledger:
        admit(ledger, "d1")
        assert ledger.head().size == 1
        assert kill_connections(url) >= 1
        assert admit(ledger, "d2").verdict.authorized
        assert ledger.head().size == 2
        assert whole(ledger) == 2


ENDED = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
GOODBYE = b"E" + (len(ENDED) + 4).to_bytes(4, "big") + ENDED
"""What ends an answer when the server is stopped after a COMMIT (ErrorResponse, 57P01)."""


@pytest.mark.parametrize(
    ("cut", "instead", "receipts"),
    [("sent", b"", 0), ("done", b"", 2), ("done", GOODBYE, 2)],
    ids=["before", "after", "before the end of the answer"],
)
def test_a_connection_lost_during_commit_runs_no_handler_and_leaves_no_charge(
    url: str, cut: str, instead: bytes, receipts: int
) -> None:
    proxy = Proxy(POSTGRES)
    proxy.instead = instead
    with closing(proxy), closing(postgres(proxy.url(url))) as ledger:
        admit(ledger, "d1")
        proxy.cut = cut
        with pytest.raises(LedgerUnavailableError):
            admit(ledger, "lost", 5000)
        assert proxy.cuts == 1
        # The next commit comes after the end of the one in doubt, whatever that was.
        assert admit(ledger, "d2").verdict.authorized
        assert used(ledger) == 200
        assert [name for name, _ in ledger.holds()] == ["d1", "d2"]
        lost = [strict_parse(one.receipt.body) for one in ledger.receipts(Filter(decision="lost"))]
        assert [body["kind"] for body in lost] == ["intent", "outcome"][:receipts]
        assert [body["end"] for body in lost[1:]] == ["not_reached"][: receipts // 2]
        assert whole(ledger) == 2


@pytest.mark.parametrize("cut", ["sent", "done"])
def test_an_outcome_whose_commit_is_in_doubt_is_booked_once(url: str, cut: str) -> None:
    proxy = Proxy(POSTGRES)
    with closing(proxy), closing(postgres(proxy.url(url))) as ledger:
        begun = entry("d1", spend(10_000, TOTAL), amount=700)
        held = ledger.commit(begun)
        assert isinstance(held, Held)
        proxy.cut = cut
        ledger.post(ending(begun, held, Settlement.CAPTURE, 300))
        with suppress(LedgerUnavailableError):
            # It may have been in the same transaction.
            admit(ledger, "d2", 0)
        assert admit(ledger, "d3", 1).verdict.authorized
        assert (proxy.cuts, used(ledger)) == (1, 301)
        assert [one.columns["decision"] for one in ledger.receipts(Filter(kind="outcome"))].count("d1") == 1
        whole(ledger)


def test_a_deadlock_is_made_anew(url: str) -> None:
    fast = f"{url}&options=-c%20deadlock_timeout%3D50ms"
    with closing(postgres(fast)) as ledger, admin() as gate, admin() as other:
        admit(ledger, "d1")
        head = f"SELECT 1 FROM {name_of(url)}.head FOR UPDATE"
        gate.execute("BEGIN")
        gate.execute(head)
        other.execute("SET deadlock_timeout = '20s'")
        other.execute("BEGIN")
        other.execute(f"SELECT 1 FROM {name_of(url)}.counter FOR UPDATE")
        answers: list[Held] = []
        # Both wait for the end of the log, the ledger first; when it has it, it waits for what the other holds.
        callers = [
            threading.Thread(target=lambda: answers.append(admit(ledger, "d2"))),
            threading.Thread(target=other.execute, args=(head,)),
        ]
        for number, caller in enumerate(callers, 1):
            caller.start()
            while blocked(name_of(url)) < number:
                pass
        gate.execute("ROLLBACK")
        callers[1].join()
        other.execute("ROLLBACK")
        callers[0].join()
        assert [answer.verdict.authorized for answer in answers] == [True]
        assert used(ledger) == 200
        assert whole(ledger) == 2


def blocked(schema: str) -> int:
    with admin() as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0", (schema,)
        ).fetchone()
    return int(found[0]) if found is not None else 0


@pytest.mark.parametrize(("failures", "admitted"), [(2, True), (100, False)])
def test_a_serialisation_failure_is_made_anew_and_in_the_end_given_up(url: str, failures: int, admitted: bool) -> None:
    with closing(postgres(url)) as ledger, admin() as other:
        name = name_of(url)
        other.execute(f"CREATE SEQUENCE {name}.tries")
        other.execute(
            f"CREATE FUNCTION {name}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('{name}.tries') <= {failures} THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF;"
            " RETURN NEW; END $$"
        )
        other.execute(
            f"CREATE TRIGGER fail BEFORE INSERT ON {name}.receipt FOR EACH ROW EXECUTE FUNCTION {name}.fail()"
        )
        if admitted:
            assert admit(ledger, "d1").verdict.authorized
        else:
            with pytest.raises(LedgerUnavailableError, match="40001"):
                admit(ledger, "d1")
            assert (used(ledger), ledger.head().size) == (0, 0)
        other.execute(f"DROP TRIGGER fail ON {name}.receipt")
        assert admit(ledger, "d2").verdict.authorized
        assert used(ledger) == (200 if admitted else 100)
        whole(ledger)


def test_a_server_that_takes_no_writes_refuses_and_is_found_again(url: str) -> None:
    role = name_of(url)
    with admin() as other:
        other.execute(f"CREATE ROLE {role} LOGIN")
        other.execute(f"GRANT CREATE ON DATABASE test TO {role}")
        try:
            with closing(postgres(url.replace("postgres@", f"{role}@"))) as ledger:
                admit(ledger, "d1")
                other.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
                kill_connections(url)
                with pytest.raises(LedgerUnavailableError):
                    admit(ledger, "d2")
                with pytest.raises(LedgerUnavailableError):
                    admit(ledger, "d3")
                other.execute(f"ALTER ROLE {role} RESET default_transaction_read_only")
                assert admit(ledger, "d4").verdict.authorized
                assert used(ledger) == 200
                assert whole(ledger) == 2
        finally:
            other.execute(f"DROP OWNED BY {role} CASCADE")
            other.execute(f"DROP ROLE {role}")


def test_a_stopped_peer_holds_the_log_up_no_longer_than_its_timeout(url: str) -> None:
    postgres(url).close()
    code = """
        import os, signal, sys, threading
        from tests.ledger.servers import postgres
        from tests.ledger.test_postgres import admit

        stops = [signal.SIGSTOP]

        def stop(size):
            if stops:
                print("stopping", flush=True)
                signal.pthread_kill(threading.get_ident(), stops.pop())
            return os.urandom(size)

        ledger = postgres(sys.argv[1], draw=stop, deadline=30)
        print(admit(ledger, "stopped", 5000).receipt.seq)
        ledger.close()
    """
    peer = start(code, url.replace("timeout=10s", "timeout=1s"))
    assert peer.stdout is not None
    assert peer.stdout.readline() == "stopping\n"
    with closing(postgres(url)) as ledger:
        assert admit(ledger, "d1").verdict.authorized
        peer.send_signal(signal.SIGCONT)
        out, err = peer.communicate(timeout=60)
        # Its transaction was ended by the server, and made anew once it ran again.
        assert out == "2\n", err
        assert used(ledger) == 5100
        assert whole(ledger) == 2


def test_two_processes_admit_exactly_the_cap(url: str) -> None:
    postgres(url).close()
    code = """
        import sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from tests.ledger.conftest import entry, spend
        from tests.ledger.servers import postgres
        from afmiddleware.model import Window
        ledger = postgres(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        limit = spend(10_000, Window("total"), per="global")

        def one(n):
            name = f"{sys.argv[2]}-{n}"
            return ledger.commit(entry(name, limit, amount=1000, owner="key:" + sys.argv[2])).verdict.authorized

        with ThreadPoolExecutor(16) as pool:
            print(sum(pool.map(one, range(50))), flush=True)
        ledger.close()
    """
    workers = [start(code, url, str(n)) for n in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    counts = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(counts) == 10
    with closing(postgres(url)) as ledger:
        assert used(ledger, "global") == 10_000
        assert whole(ledger) == 10
        assert ledger.head().size == 100


def test_hosts_whose_clocks_disagree_count_in_one_window(url: str, tmp_path: Path) -> None:
    policy = tmp_path / "fence.yaml"
    policy.write_text(
        "version: 1\nservice: s\nrules: {allow: [jobs.run.here]}\nlimits: [{name: hourly, rate: 100/hour, per: global}]\n"
    )
    now = FrozenClock()()
    clocks = [FrozenClock(now + skew * 1_000_000) for skew in (-3601, 3601)]
    environment = {"AFM_LEDGER": url}
    fences = [Fence.from_file(policy, env=environment, clock=clock) for clock in clocks]
    admitted, codes = 0, set()
    for n in range(120):
        event = ActionEvent.create(actor="a", resource="jobs", action="run", environment="here")
        try:
            with fences[n % 2].action(event):
                admitted += 1
        except ActionRefusedError as refused:
            codes.add(refused.verdict.code)
    for fence in fences:
        fence.close()
    assert (admitted, codes) == (100, {"rate.exceeded"})


def test_a_forked_child_and_its_parent_both_commit(url: str) -> None:
    code = """
        import os, sys
        from tests.ledger.servers import postgres
        from tests.ledger.test_postgres import admit, whole
        ledger = postgres(sys.argv[1])
        admit(ledger, "parent-1")
        assert ledger.head().size == 1
        child = os.fork()
        if child == 0:
            admit(ledger, "child")
            assert ledger.head().size == 2
            ledger.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        admit(ledger, "parent-2")
        assert whole(ledger) == 3
        ledger.close()
        print("both")
    """
    out, err = start(code, url).communicate(timeout=60)
    assert out == "both\n", err


def test_a_server_that_lost_acknowledged_receipts_is_not_continued(url: str) -> None:
    with closing(postgres(url)) as ledger, admin() as other:
        admit(ledger, "d1")
        admit(ledger, "d2")
        other.execute(f"UPDATE {name_of(url)}.head SET size = 1")
        with pytest.raises(LedgerUnavailableError, match="were acknowledged"):
            admit(ledger, "d3")


@pytest.mark.parametrize("owner", ["key:a\0b", "key:" + "x" * 10_000, "key:\U0001f600{}:'", "key:" + "\0" * 300])
def test_any_name_has_a_row_of_its_own(url: str, owner: str) -> None:
    with closing(postgres(url)) as ledger:
        admit(ledger, "d1", 300, owner=owner)
        admit(ledger, "d2", 200, owner=owner + "x")
        assert used(ledger, f"actor:{owner}") == 300
        begun = entry("d3", spend(10_000, TOTAL), amount=50, owner=owner)
        held = ledger.commit(begun)
        assert isinstance(held, Held)
        ledger.commit(ending(begun, held, Settlement.RELEASE))
        assert used(ledger, f"actor:{owner}") == 300


def test_a_full_queue_of_the_pool_is_unavailable(url: str) -> None:
    with closing(postgres(url)) as first:
        admit(first, "d1")
    with closing(postgres(url.replace("timeout=10s", "timeout=2s&pool=1"))) as ledger:
        with ledger._read(), pytest.raises(LedgerUnavailableError):
            ledger.head()
        assert ledger.head().size == 1


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", textwrap.dedent(code), *arguments], subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def test_a_server_that_has_gone_on_from_an_older_state_is_not_followed(url: str) -> None:
    """A copy that had not caught up became the server, and another host has written there."""
    ledger = postgres(url)
    admit(ledger, "d1")
    tables = ("head", "receipt", "node", "checkpoint")
    with admin() as connection:
        for table in tables:
            connection.execute(f"CREATE TEMP TABLE {table}_then AS TABLE {name_of(url)}.{table}")
        admit(ledger, "d2")
        for table in tables:
            connection.execute(f"DELETE FROM {name_of(url)}.{table}")
            connection.execute(f"INSERT INTO {name_of(url)}.{table} SELECT * FROM {table}_then")
    with closing(postgres(url)) as other:
        admit(other, "e1", owner="key:b")
        admit(other, "e2", owner="key:b")
    kill_connections(url)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="not the one that was acknowledged"):
            admit(ledger, "d3")
    ledger.close()
