"""What the URLs of ledgers say: `memory`, `sqlite:///path`, `postgresql://host/database`; and of rates, `redis://host`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from afmiddleware.grammar.durations import parse_duration
from afmiddleware.grammar.quoting import cut, quoted

MEMORY: Final = ("memory", "memory:")
SQLITE: Final = "sqlite:///"
POSTGRES: Final = ("postgresql://", "postgres://")
REDIS: Final = ("redis://", "rediss://")
MEMORY_SHARES_NOTHING: Final = (
    "rates in Redis stand beside a ledger that outlives its process; use sqlite:///fence.db or postgresql://..., "
    "or remove rates"
)
_USE: Final = "use memory, sqlite:///path/to/fence.db or postgresql://host/database"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_LONGEST: Final = 60
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,48}", re.ASCII)
_MILLISECONDS = re.compile(r"([1-9][0-9]{0,4})ms", re.ASCII)
_DATABASE = re.compile(r"/?|/[0-9]{1,3}", re.ASCII)


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


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where rates are shared.

    `location` is what redis-py reads; it may hold a password, `name` never does. `prefix` begins the names of all keys,
    `timeout` is how many seconds a connection and each answer may take.
    """

    location: str
    name: str
    prefix: str = "afm"
    timeout: float = 0.5


def parse_redis(url: str) -> RedisUrl:
    """Read `redis://host:6379/0?prefix=fence&timeout=500ms`; `rediss://` is the same over TLS.

    What else stands after the question mark goes to redis-py (`ssl_ca_certs=...`). Raises `ValueError`, whose text
    never holds a password.
    """
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        named = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        well_formed = bool(parts.hostname) and parts.port != 0 and _DATABASE.fullmatch(parts.path) is not None
    except ValueError:
        well_formed, named, options, parts = False, "", [], SplitResult("", "", "", "", "")
    if not (url.startswith(REDIS) and url.isprintable() and well_formed):
        msg = "this is not a Redis URL; write one such as redis://host:6379/0?prefix=fence"
        raise ValueError(msg)
    ours = {key: value for key, value in options if key in ("prefix", "timeout")}
    if len(ours) != sum(key in ours for key, _ in options):
        msg = "prefix or timeout stands twice in the URL of rates; keep one of them"
        raise ValueError(msg)
    rest = urlencode([(key, value) for key, value in options if key not in ours], quote_via=quote)
    location = urlunsplit(SplitResult(parts.scheme, parts.netloc, parts.path, rest, ""))
    prefix = ours.get("prefix", "afm")
    if _PREFIX.fullmatch(prefix) is None:
        msg = f"{quoted(prefix)} is not a prefix; use letters, digits, . _ and -, at most 48 characters"
        raise ValueError(msg)
    return RedisUrl(location=location, name=named, prefix=prefix, timeout=_wait(ours.get("timeout", "500ms")))


def check_rates(value: str) -> None:
    """Raises `ValueError` for anything but the URL of a Redis. Its text never holds a password."""
    parse_redis(value)


def check_ledger(value: str) -> None:
    """Raises `ValueError` for anything but the URL of a ledger. Its text never holds a password."""
    if value.startswith(POSTGRES) and value.isprintable():
        parse_postgres(value)
        return
    if value.startswith(SQLITE) and "?" in value:
        # It would be part of a file's name, and what was meant would not hold.
        msg = "a ledger in a file has no options; write sqlite:///fence.db, without what stands after the question mark"
        raise ValueError(msg)
    known = value in MEMORY or (value.startswith(SQLITE) and value.rstrip("/") != "sqlite:")
    if not known or not value.isprintable():
        shown = cut(value.partition("://")[0])
        msg = f"{shown!r} is not the beginning of a ledger; {_USE}"
        raise ValueError(msg)


def holds_password(value: str) -> bool:
    """Whether a URL holds a secret that belongs into the environment."""
    try:
        parts = urlsplit(value)
        return parts.password is not None or any(key == "password" for key, _ in parse_qsl(parts.query))
    except ValueError:
        return False


def shown(value: str, rates: str | None = None) -> str:
    """A ledger's URL for logs and messages: without user, password and options where it is one of a server."""
    ledger = parse_postgres(value).name if value.startswith(POSTGRES) else value
    return ledger if rates is None else f"{ledger}, rates {parse_redis(rates).name}"


def _schema(value: str) -> str:
    if _SCHEMA.fullmatch(value) is None or value.startswith("pg_"):
        msg = f"{quoted(value)} is not a schema; use a-z, 0-9 and _, at most 48 characters, not beginning with pg_"
        raise ValueError(msg)
    return value


def _pool(value: str) -> int:
    if _WHOLE.fullmatch(value) is None:
        msg = f"{quoted(value)} is not a number of connections; write one from 1 to 999"
        raise ValueError(msg)
    return int(value)


def _wait(value: str) -> float:
    found = _MILLISECONDS.fullmatch(value)
    return int(found[1]) / 1000 if found else float(_timeout(value))


def _timeout(value: str) -> int:
    seconds = parse_duration(value)
    if seconds > _LONGEST:
        msg = f"a timeout of {cut(value)} is too long; use at most {_LONGEST}s"
        raise ValueError(msg)
    return seconds


_OURS: Final = ("schema", "pool", "timeout")
