"""Opening a PostgreSQL ledger: what it refuses, and what it says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware.errors import ConfigError, LedgerError, LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.open import open_for_reading
from tests.ledger.servers import SECRET, SIGNER, admin, postgres, schema
from tests.ledger.test_postgres import admit, name_of, start

pytestmark = pytest.mark.service("postgresql")


@pytest.fixture
def url() -> Iterator[str]:
    with schema() as made:
        yield made


def test_a_server_that_is_not_there_is_unavailable_at_the_start(url: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
        postgres("postgresql://postgres:hunter2@127.0.0.1:1/test?timeout=1s")


def test_a_fault_never_shows_the_password(url: str) -> None:
    with pytest.raises(LedgerUnavailableError) as caught:
        postgres("postgresql://postgres:hunter2@127.0.0.1:1/test?timeout=1s")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as unknown:
        postgres("postgresql://postgres:hunter2@127.0.0.1:1/test?sslmoode=require")
    assert "hunter2" not in str(unknown.value)


def test_tables_of_a_newer_release_are_refused(url: str) -> None:
    postgres(url).close()
    with admin() as connection:
        connection.execute(f"UPDATE {name_of(url)}.meta SET version = 99")
    with pytest.raises(LedgerError, match="upgrade"):
        postgres(url)


def test_many_that_start_at_once_make_one_log(url: str) -> None:
    made: list[str] = []

    def begin() -> None:
        with closing(postgres(url)) as ledger:
            made.append(ledger.head().log)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert len(set(made)) == 1


def test_another_key_is_refused_and_a_missing_one_is_not_made_anew(url: str, tmp_path: Path) -> None:
    from afmiddleware.config.ledger_url import parse_postgres
    from afmiddleware.fence import undo
    from afmiddleware.ledger.postgres import PostgresLedger

    with closing(postgres(url)) as ledger:
        admit(ledger, "d1")
    with pytest.raises(ReceiptError, match="restore it"):
        PostgresLedger(parse_postgres(url), tmp_path / "fence.key", undo, signer=SIGNER)
    (tmp_path / "fence.key").write_text("00" * 32)
    with pytest.raises(ReceiptError, match="is not the one"):
        PostgresLedger(parse_postgres(url), tmp_path / "fence.key", undo, signer=SIGNER)
    (tmp_path / "fence.key").write_text(SECRET.hex())
    PostgresLedger(parse_postgres(url), tmp_path / "fence.key", undo, signer=SIGNER).close()


def test_there_is_no_ledger_to_read_before_one_is_made(url: str, tmp_path: Path) -> None:
    from afmiddleware.config.load import load

    config = load(f"version: 1\nservice: s\nledger: {url}\n")
    with closing(open_for_reading(config, tmp_path)) as reader, pytest.raises(ReceiptError, match="no ledger"):
        reader.head()


@pytest.mark.parametrize(
    ("module", "keys", "wanted"),
    [
        ("psycopg", "ledger: postgresql://nowhere/db", "ledger: postgresql needs psycopg, {}[postgres]'"),
        ("redis", "rates: redis://127.0.0.1:1", "rates: redis needs redis, {}[redis]'"),
        ("hiredis", "rates: redis://127.0.0.1:1", "rates: redis needs hiredis, {}[redis]'"),
    ],
)
def test_without_the_driver_it_says_what_to_install(tmp_path: Path, module: str, keys: str, wanted: str) -> None:
    code = """
        import sys
        sys.modules[sys.argv[2]] = None
        from pathlib import Path
        from afmiddleware import Fence
        from afmiddleware.errors import ConfigError
        Path(sys.argv[1]).write_text("version: 1\\nservice: s\\n" + sys.argv[3] + "\\n")
        try:
            Fence.from_file(sys.argv[1], env={})
        except ConfigError as error:
            print(error)
    """
    out, err = start(code, str(tmp_path / "fence.yaml"), module, keys).communicate(timeout=60)
    said = wanted.format("which is not installed: pip install 'afmiddleware")
    assert out == f"{tmp_path}/fence.yaml: {said}\n", err
