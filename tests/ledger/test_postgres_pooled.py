"""A PostgreSQL ledger behind a pooler that gives each transaction another server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.postgres import PostgresLedger
from afmiddleware.ledger.postgres_server import connect
from tests.ledger.pooler import pooler
from tests.ledger.servers import POSTGRES, postgres, schema
from tests.ledger.test_postgres import admit, used, whole

pytestmark = pytest.mark.service("postgresql")


@pytest.fixture
def url() -> Iterator[str]:
    with schema() as made, pooler(POSTGRES) as port:
        yield made.replace("127.0.0.1:5432", f"127.0.0.1:{port}")


def test_what_two_processes_commit_and_read_through_it_is_whole(url: str) -> None:
    def work(ledger: PostgresLedger, name: str) -> int:
        done = 0
        for number in range(20):
            done += admit(ledger, f"{name}{number}", 1).verdict.authorized
            # More often than a driver executes what it does not prepare yet.
            assert len([*ledger.receipts(Filter(decision=f"{name}{number}"))]) == 1
            assert ledger.head().size > number
        return done

    with closing(postgres(url)) as one, closing(postgres(url)) as other, ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(work, ledger, name) for ledger, name in ((one, "a"), (other, "b"), (one, "c"), (other, "d"))
        ]
        assert [job.result() for job in jobs] == [20] * 4
        assert used(one) == 80
        assert whole(one) == 80


def test_nothing_is_left_in_its_servers(url: str) -> None:
    with closing(postgres(url)) as ledger:
        admit(ledger, "d1")
        for _ in range(12):
            ledger.head()
    with pooler(POSTGRES, servers=1) as port:
        place = f"postgresql://postgres@127.0.0.1:{port}/test"
        mine = url.partition("?")[2]
        with closing(postgres(f"{place}?{mine}")) as ledger:
            for number in range(12):
                admit(ledger, f"e{number}", 1)
                ledger.head()
        with psycopg.connect(place, autocommit=True, prepare_threshold=None) as after:
            assert after.execute("SHOW statement_timeout").fetchone() == ("0",)
            assert after.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_without_one_statements_are_prepared_and_timed() -> None:
    with schema() as direct, closing(postgres(direct)) as ledger:
        with ledger._read() as reading:
            assert reading.prepare_threshold is not None
            assert reading.execute("SHOW statement_timeout").fetchone() == ("10s",)
        with closing(connect(ledger._url)) as writing:
            assert writing.prepare_threshold is not None
            assert writing.execute("SHOW statement_timeout").fetchone() == ("0",)
