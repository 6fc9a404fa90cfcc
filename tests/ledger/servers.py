"""Real servers for tests: a schema of its own for each, dropped at its end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.config.ledger_url import PostgresUrl, parse_postgres, parse_redis
from afmiddleware.fence import undo
from afmiddleware.receipts.checkpoint import KeySigner

if TYPE_CHECKING:
    import psycopg

    from afmiddleware.ledger.postgres import PostgresLedger
    from afmiddleware.ledger.redis_rates import Rates

POSTGRES = os.environ.get("AFM_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("AFM_TEST_REDIS", "redis://127.0.0.1:6379/0")
SECRET = bytes(range(32))
SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))


@contextmanager
def schema() -> Iterator[str]:
    """The URL of a schema that nobody else uses; its connections are named like it."""
    name = f"afm_test_{secrets.token_hex(6)}"
    try:
        yield f"{POSTGRES}?schema={name}&timeout=10s&application_name={name}"
    finally:
        with admin() as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@contextmanager
def shared() -> Iterator[str]:
    """The URL of shared rates that nobody else uses."""
    import redis

    prefix = f"afm_test_{secrets.token_hex(6)}"
    try:
        yield f"{REDIS}?prefix={prefix}&timeout=5s"
    finally:
        with redis.Redis.from_url(REDIS) as client:
            for key in client.scan_iter(f"{prefix}:*", count=1000):
                client.delete(key)


def rates(url: str, clock: Callable[[], int] | None = None, cells: Iterable[str] = ()) -> Rates:
    from afmiddleware.ledger.redis_rates import Rates

    return Rates(parse_redis(url), os.urandom, clock, cells)


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
