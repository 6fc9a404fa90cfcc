"""Real servers for tests: a schema of its own for each, dropped at its end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.config.ledger_url import PostgresUrl, parse_postgres
from afmiddleware.fence import undo
from afmiddleware.receipts.checkpoint import KeySigner

if TYPE_CHECKING:
    import psycopg

    from afmiddleware.ledger.postgres import PostgresLedger

POSTGRES = os.environ.get("AFM_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
SECRET = bytes(range(32))
SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))


@contextmanager
def schema() -> Iterator[str]:
    """The URL of a schema that nobody else uses."""
    name = f"afm_test_{secrets.token_hex(6)}"
    try:
        yield f"{POSTGRES}?schema={name}&timeout=10s"
    finally:
        with admin() as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@contextmanager
def admin() -> Iterator[psycopg.Connection]:
    """A connection beside the ledger's own."""
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        yield connection


def postgres(url: str | PostgresUrl, clock: Callable[[], int] | None = None, **more: Any) -> PostgresLedger:
    from afmiddleware.ledger.postgres import PostgresLedger

    parsed = parse_postgres(url) if isinstance(url, str) else url
    return PostgresLedger(
        parsed, Path("/nonexistent/fence.key"), undo, clock=clock, secret=SECRET, signer=SIGNER, **more
    )
