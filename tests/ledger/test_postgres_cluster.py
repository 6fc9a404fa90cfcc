"""A PostgreSQL server that is restarted, that crashes, and one that another takes over from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.postgres import PostgresLedger
from afmiddleware.model import Held, Settlement
from tests.ledger.cluster import Cluster, cluster
from tests.ledger.conftest import ending, entry, spend
from tests.ledger.servers import postgres
from tests.ledger.test_postgres import TOTAL, admit, used, whole

pytestmark = [pytest.mark.service("initdb"), pytest.mark.slow]


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def server(running: Cluster) -> Iterator[Cluster]:
    yield running
    if not running.runs:
        running.start()
    running.clear()


def resumed(ledger: PostgresLedger, name: str) -> int:
    """How often a request was refused before the ledger took it again."""
    refused = 0
    while True:
        try:
            assert admit(ledger, f"{name}-{refused}").verdict.authorized
        except LedgerUnavailableError:
            refused += 1
        else:
            return refused


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restarted_server_is_found_again_with_everything(server: Cluster, how: str) -> None:
    with closing(postgres(server.url())) as ledger:
        begun = entry("d1", spend(10_000, TOTAL), amount=700)
        held = ledger.commit(begun)
        assert isinstance(held, Held)
        server.stop(how)
        for name in ("down-1", "down-2"):
            with pytest.raises(LedgerUnavailableError):
                admit(ledger, name)
        # What ends while the server is away is not lost.
        ledger.post(ending(begun, held, Settlement.CAPTURE, 300))
        server.start()
        resumed(ledger, "back")
        assert used(ledger) == 400
        assert [one.columns["decision"] for one in ledger.receipts(Filter(kind="outcome"))] == ["d1"]
        assert whole(ledger) == 1


def test_a_server_that_is_not_there_at_the_start_is_found_later(server: Cluster) -> None:
    postgres(server.url()).close()
    server.stop("fast")
    with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
        postgres(server.url())
    server.start()
    with closing(postgres(server.url())) as ledger:
        assert admit(ledger, "d1").verdict.authorized


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restart_under_load_loses_and_doubles_nothing(server: Cluster, how: str) -> None:
    with closing(postgres(server.url())) as ledger:
        admitted: list[str] = []
        stop = threading.Event()

        def work(worker: int) -> None:
            number = 0
            while not stop.is_set() or number < 20:
                number += 1
                name = f"w{worker}-{number}"
                try:
                    held = ledger.commit(entry(name, spend(10**9, TOTAL), amount=100))
                except LedgerUnavailableError:
                    continue
                assert isinstance(held, Held)
                admitted.append(name)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for round_ in range(1, 4):
            while len(admitted) < 40 * round_:
                pass
            server.stop(how)
            server.start()
        stop.set()
        for worker in workers:
            worker.join()
    # Closed and opened again, so that what was given back is written.
    with closing(postgres(server.url())) as ledger:
        held_now = {name for name, _ in ledger.holds()}
        assert held_now == set(admitted)
        assert used(ledger) == 100 * len(admitted)
        assert whole(ledger) == len(admitted)


def test_a_standby_is_refused_and_taken_once_it_is_promoted() -> None:
    with cluster() as primary:
        url = primary.url()
        with closing(postgres(url)) as ledger:
            admit(ledger, "d1", 300)
        standby = primary.standby()
        with pytest.raises(LedgerUnavailableError, match="read-only"):
            postgres(standby.url())
        # Of several hosts, the one that takes writes is found, whichever stands first.
        with closing(postgres(standby.url(primary))) as ledger:
            admit(ledger, "d2", 200)
            while not primary.caught_up(standby):
                pass
            primary.stop("fast")
            with pytest.raises(LedgerUnavailableError):
                admit(ledger, "d3")
            standby.promote()
            resumed(ledger, "d4")
            assert used(ledger) == 600
            assert whole(ledger) == 3


def test_a_standby_that_lacks_what_was_acknowledged_is_not_continued() -> None:
    with cluster() as primary:
        with closing(postgres(primary.url())) as ledger:
            admit(ledger, "d1")
        standby = primary.standby()
        with closing(postgres(primary.url(standby))) as ledger:
            admit(ledger, "d2")
            while not primary.caught_up(standby):
                pass
            standby.stop("fast")
            admit(ledger, "d3")
            primary.stop("immediate")
            standby.start()
            standby.promote()
            for _ in range(2):
                with pytest.raises(LedgerUnavailableError, match="were acknowledged"):
                    admit(ledger, "d4")
