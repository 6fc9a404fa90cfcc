"""The URLs of ledgers, and what their options mean."""

from __future__ import annotations

import pytest

from afmiddleware.config.ledger_url import check_ledger, parse_postgres, parse_redis, shown


@pytest.mark.parametrize(("text", "seconds"), [("1500ms", 1.5), ("1ms", 0.001), ("2s", 2.0)])
def test_how_long_redis_may_take(text, seconds):
    assert parse_redis(f"redis://h/0?timeout={text}").timeout == seconds


@pytest.mark.parametrize("url", ["postgresql://h/d\x7f", "postgresql://h/d\u202e"])
def test_a_url_of_what_cannot_be_printed_is_none(url):
    with pytest.raises(ValueError, match="'postgresql' is not the beginning of a ledger"):
        check_ledger(url)


def test_what_is_not_ours_of_a_ledgers_url_goes_to_libpq():
    found = parse_postgres("postgresql://u:p%20w@h:5433/d?sslmode=verify-full&pool=2&schema=s&timeout=3s")
    assert found.conninfo == "postgresql://u:p%20w@h:5433/d?sslmode=verify-full"
    assert (found.name, found.schema, found.pool, found.timeout) == ("postgresql://h:5433/d", "s", 2, 3)
    assert parse_postgres("postgresql://h").conninfo == "postgresql://h/"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?prefix=", "'' is not a prefix"),
        ("redis://h/0?timeout=", "''"),
        ("redis://h/0?prefix=a&prefix=b", "stands twice"),
        ("redis://h/0?x", "this is not a Redis URL"),
    ],
)
def test_a_url_of_redis_with_nothing_behind_a_name_is_none(url, said):
    with pytest.raises(ValueError, match=said):
        parse_redis(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h/d?pool=", "'' is not a number of connections"),
        ("postgresql://h/d?schema=", "'' is not a schema"),
        ("postgresql://h/d?pool=1&pool=2", "pool stands twice"),
        ("postgresql://h/d?x", "this is not a PostgreSQL URL"),
    ],
)
def test_a_url_of_postgresql_with_nothing_behind_a_name_is_none(url, said):
    with pytest.raises(ValueError, match=said):
        parse_postgres(url)


@pytest.mark.parametrize(
    ("ledger", "rates", "said"),
    [
        ("memory", None, "memory"),
        ("sqlite:///fence.db", None, "sqlite:///fence.db"),
        ("postgresql://me:hush@h:5433/d?schema=s", None, "postgresql://h:5433/d"),
        (
            "postgresql://me:hush@h/d",
            "rediss://me:hush@r:6380/1?prefix=p",
            "postgresql://h/d, rates rediss://r:6380/1",
        ),
        ("sqlite:///fence.db", "redis://r", "sqlite:///fence.db, rates redis://r"),
    ],
)
def test_what_logs_say_of_a_ledger_holds_no_secret(ledger, rates, said):
    assert shown(ledger, rates) == said


def test_a_ledger_in_a_file_has_no_options():
    """They became a part of the file's name, and another ledger began."""
    with pytest.raises(ValueError, match="a ledger in a file has no options"):
        check_ledger("sqlite:///fence.db?timeout=5s")
    check_ledger("sqlite:////var/lib/fence/fence.db")
