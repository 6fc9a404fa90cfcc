"""What the URLs of ledgers say: `memory`, `sqlite:///path`, `postgresql://host/database`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from afmiddleware.grammar.durations import parse_duration

MEMORY: Final = ("memory", "memory:")
SQLITE: Final = "sqlite:///"
POSTGRES: Final = ("postgresql://", "postgres://")
_USE: Final = "use memory, sqlite:///path/to/fence.db or postgresql://host/database"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_LONGEST: Final = 60


class PostgresUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A PostgreSQL ledger.

    `conninfo` is what libpq reads; it may hold a password, `name` never does. `schema` holds the tables, `pool` is how
    many connections one process reads with (it writes with one more), `timeout` how many seconds one statement and
    each wait for a lock may take.
    """

    conninfo: str
    name: str
    schema: str = "afmiddleware"
    pool: int = 4
    timeout: int = 2


def parse_postgres(url: str) -> PostgresUrl:
    """Read `postgresql://user@host:5432/database?schema=fence&pool=4&timeout=2s`.

    What else stands after the question mark goes to libpq (`sslmode=verify-full`). Raises `ValueError`, whose text
    never holds a password.
    """
    try:
        parts = urlsplit(url)
        name = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        msg = "this is not a PostgreSQL URL; write one such as postgresql://host/database?schema=fence"
        raise ValueError(msg) from None
    ours: dict[str, str] = {}
    for key, value in options:
        if key in _OURS:
            if key in ours:
                msg = f"{key} stands twice in the ledger's URL; keep one of them"
                raise ValueError(msg)
            ours[key] = value
    rest = urlencode([(key, value) for key, value in options if key not in _OURS], quote_via=quote)
    conninfo = urlunsplit(SplitResult("postgresql", parts.netloc, parts.path or "/", rest, ""))
    usual = PostgresUrl(conninfo=conninfo, name=name)
    return PostgresUrl(
        conninfo=conninfo,
        name=name,
        schema=_schema(ours.get("schema", usual.schema)),
        pool=_pool(ours.get("pool", str(usual.pool))),
        timeout=_timeout(ours.get("timeout", f"{usual.timeout}s")),
    )


def check_ledger(value: str) -> None:
    """Raises `ValueError` for anything but the URL of a ledger. Its text never holds a password."""
    if value.startswith(POSTGRES) and value.isprintable():
        parse_postgres(value)
        return
    known = value in MEMORY or (value.startswith(SQLITE) and value.rstrip("/") != "sqlite:")
    if not known or not value.isprintable():
        shown = value.partition("://")[0][:20]
        msg = f"{shown!r} is not the beginning of a ledger; {_USE}"
        raise ValueError(msg)


def holds_password(value: str) -> bool:
    """Whether a URL holds a secret that belongs into the environment."""
    try:
        parts = urlsplit(value)
        return parts.password is not None or any(key == "password" for key, _ in parse_qsl(parts.query))
    except ValueError:
        return False


def shown(value: str) -> str:
    """A ledger's URL for logs and messages: without user, password and options where it is one of a server."""
    return parse_postgres(value).name if value.startswith(POSTGRES) else value


def _schema(value: str) -> str:
    if _SCHEMA.fullmatch(value) is None or value.startswith("pg_"):
        msg = f"{value[:40]!r} is not a schema; use a-z, 0-9 and _, at most 48 characters, not beginning with pg_"
        raise ValueError(msg)
    return value


def _pool(value: str) -> int:
    if _WHOLE.fullmatch(value) is None:
        msg = f"{value[:20]!r} is not a number of connections; write one from 1 to 999"
        raise ValueError(msg)
    return int(value)


def _timeout(value: str) -> int:
    seconds = parse_duration(value)
    if seconds > _LONGEST:
        msg = f"a timeout of {value[:20]} is too long; use at most {_LONGEST}s"
        raise ValueError(msg)
    return seconds


_OURS: Final = ("schema", "pool", "timeout")
