"""An issuer's keys are at hand when a request needs them, whatever the issuer's server does."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.needs import NeedKeySet
from afmiddleware.lookups.fetch import Document, FetchError
from afmiddleware.lookups.jwks import (
    COOLDOWN_SECONDS,
    HARD_SECONDS,
    SOFT_SECONDS,
    KeySources,
    KeyTimes,
)
from afmiddleware.testing import mint_es256_issuer
from tests.unit.lookups.conftest import ISSUER, SECONDS, Gate, Source, says

NEXT = mint_es256_issuer(kid="test-2")
BOTH = {"keys": [*ISSUER.jwks["keys"], *NEXT.jwks["keys"]]}


def refuse(_url: str) -> Any:
    raise FetchError("the server answered 500")


def test_nothing_is_fetched_before_it_is_needed(server, source):
    assert source.keys.snapshot() is None
    assert server.seen == []


def test_keys_are_fetched_once_and_served_from_memory(server, source):
    first = source.load()
    assert sorted(first.keys) == ["test-1"]
    source.now += SOFT_SECONDS
    assert all(source.keys.snapshot() is first for _ in range(100))
    assert all(source.load() is first for _ in range(100))
    assert server.seen == ["/jwks.json"]


def test_keys_that_are_not_fresh_are_served_while_they_are_read_again(server, source):
    first = source.load()
    server.answer = gate = Gate(BOTH)
    source.now += SOFT_SECONDS + 1
    assert source.keys.snapshot() is first
    assert gate.reached.wait(SECONDS)
    assert source.keys.snapshot() is first
    gate.opened.set()
    assert sorted(source.load("test-2").keys) == ["test-1", "test-2"]
    assert len(server.seen) == 2


def test_the_same_keys_keep_their_generation_and_other_keys_do_not(server, source):
    first = source.load()
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    again = source.load("nobody")
    assert again.generation == first.generation
    server.answer = NEXT.jwks
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    assert source.load("test-2").generation == first.generation + 1
    assert len(server.seen) == 3


def test_a_new_key_is_found_and_a_removed_one_is_gone(server, source):
    source.load()
    server.answer = NEXT.jwks
    source.now += COOLDOWN_SECONDS
    assert sorted(source.load("test-2").keys) == ["test-2"]
    assert source.kids() == ["test-2"]
    assert "test-1" not in source.load("test-1").keys


def test_a_document_without_keys_takes_them_all_away(server, source):
    source.load()
    server.answer = {"keys": []}
    source.now += COOLDOWN_SECONDS
    assert source.load("nobody").keys == {}
    assert source.kids() == []


def test_strangers_key_ids_cause_one_fetch_in_a_cool_down(server, source):
    source.load()
    for number in range(1000):
        assert sorted(source.load(f"nobody-{number}").keys) == ["test-1"]
    assert len(server.seen) == 1
    source.now += COOLDOWN_SECONDS
    for number in range(1000):
        source.load(f"nobody-{number}")
    assert len(server.seen) == 2
    assert source.kids() == ["test-1"]


def test_the_cool_down_counts_from_the_last_attempt_good_or_bad(server, source):
    source.load()
    server.answer = says(b"", 500)
    source.now += COOLDOWN_SECONDS
    assert sorted(source.load("nobody").keys) == ["test-1"]
    source.now += COOLDOWN_SECONDS - 0.1
    source.load("nobody")
    assert len(server.seen) == 2
    source.now += 0.1
    source.load("nobody")
    assert len(server.seen) == 3


# The issuer is down


def test_an_issuer_that_is_down_at_the_start_is_believed_once_it_is_up(server, source):
    server.answer = says(b"", 500)
    with pytest.raises(IdentityUnavailableError, match="cannot be read") as caught:
        source.load()
    assert caught.value.retry_after > 0
    with pytest.raises(IdentityUnavailableError):
        source.load()
    assert len(server.seen) == 1
    server.answer = ISSUER.jwks
    source.now += 1.0
    assert sorted(source.load().keys) == ["test-1"]
    assert len(server.seen) == 2


def test_keys_outlive_their_issuer_for_a_day(server, source):
    first = source.load()
    server.answer = says(b"", 500)
    source.now += HARD_SECONDS
    assert source.keys.snapshot() is first
    assert source.load("nobody") is first
    source.now += 1
    assert source.keys.snapshot() is None
    with pytest.raises(IdentityUnavailableError):
        source.load()
    server.answer = ISSUER.jwks
    source.now += 1000
    assert sorted(source.load().keys) == ["test-1"]


def test_an_issuer_that_stays_down_is_asked_ever_less_often():
    asked: list[str] = []

    def fetch(url: str) -> Any:
        asked.append(url)
        return refuse(url)

    source = Source("", fetch)
    for _ in range(8 * 3600):
        source.now += 1
        with pytest.raises(IdentityUnavailableError):
            source.load()
    # Every 150 to 300 seconds in the end, and about ten times on the way there.
    assert 8 * 3600 / 300 <= len(asked) <= 8 * 3600 / 150 + 20


def test_an_issuer_that_was_down_for_weeks_is_still_asked():
    source = Source("", refuse)
    for _ in range(1100):
        source.now += 1000
        with pytest.raises(IdentityUnavailableError):
            source.load()
    source.keys._fetch = lambda _url, _etag: Document(ISSUER.jwks)
    source.now += 1000
    assert sorted(source.load().keys) == ["test-1"]


HOSTILE: dict[str, Any] = {
    "redirect": says(b"", 302, Location="/jwks.json"),
    "HTML": says(b"<html>", Content_Type="text/html"),
    "ten megabytes": says(b" " * 10_000_000),
    "no JSON": says(b"{"),
    "a list": [],
    "no keys": {},
    "keys a map": {"keys": {}},
    "null": says(b"null"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_bad_answer_takes_no_key_away(server, source, answer):
    first = source.load()
    server.answer = answer
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    assert source.load("nobody") is first
    assert source.keys.snapshot() is first
    assert len(server.seen) == 2


def test_a_key_that_cannot_be_read_leaves_the_others(server, source, caplog):
    bad = {**NEXT.jwks["keys"][0], "key_ops": None}
    server.answer = {"keys": [bad, 7, *ISSUER.jwks["keys"]]}
    with caplog.at_level(logging.WARNING):
        assert sorted(source.load().keys) == ["test-1"]
    assert [record.getMessage() for record in caplog.records] == [
        "a key of https://as.example.com is left out: key 1: it is not for verifying signatures",
        "a key of https://as.example.com is left out: key 2: not an object",
    ]


def test_a_fault_of_our_own_is_a_failed_fetch(caplog):
    def fault(_url: str) -> Any:
        raise KeyError("secret")

    source = Source("", fault)
    with caplog.at_level(logging.WARNING), pytest.raises(IdentityUnavailableError):
        source.load()
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of https://as.example.com were not read: KeyError"
    ]
    source.keys._fetch = lambda _url, _etag: Document(ISSUER.jwks)
    source.now += 10
    assert sorted(source.load().keys) == ["test-1"]


# Many at once


def test_many_callers_cause_one_fetch(server, source):
    server.answer = gate = Gate(ISSUER.jwks)
    with ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(source.load) for _ in range(50)]
        assert gate.reached.wait(SECONDS)
        gate.opened.set()
        found = [answer.result(SECONDS) for answer in waiting]
    assert all(keys is found[0] for keys in found)
    assert len(server.seen) == 1


def test_a_caller_that_gives_up_takes_nobody_with_it():
    gate = Gate(ISSUER.jwks)
    source = Source("", gate.fetch)
    one, two = source.keys.wanted("test-1"), source.keys.wanted("test-1")
    assert not one.cancel()
    gate.opened.set()
    assert sorted(two.result(SECONDS).keys) == ["test-1"]


def test_a_caller_waits_only_so_long():
    gate = Gate(ISSUER.jwks)
    source = Source("", gate.fetch, times=KeyTimes(cold_wait=0.0))
    sources = KeySources({"https://as.example.com": source.keys})
    need = NeedKeySet("https://as.example.com", "test-1")
    with pytest.raises(IdentityUnavailableError, match="not here yet"):
        sources.wait(need)
    with pytest.raises(IdentityUnavailableError, match="not here yet"):
        asyncio.run(sources.await_(need))
    gate.opened.set()
    source.load()
    assert sources.wait(need) is source.keys.snapshot()


@pytest.mark.anyio
async def test_the_event_loop_runs_on_while_keys_are_fetched(server):
    server.answer = gate = Gate(ISSUER.jwks)
    source = Source(f"{server.url}/jwks.json", times=KeyTimes(cold_wait=SECONDS))
    sources = KeySources({"https://as.example.com": source.keys})
    need = NeedKeySet("https://as.example.com", "test-1")
    waiting = [asyncio.create_task(sources.await_(need)) for _ in range(10)]
    await asyncio.to_thread(gate.reached.wait, SECONDS)
    waiting[0].cancel()
    assert not any(task.done() for task in waiting[1:])
    gate.opened.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(keys is source.keys.snapshot() for keys in found[1:])
    assert len(server.seen) == 1
    assert await sources.await_(need) is source.keys.snapshot()


FORKS = """
import os, signal, sys, threading, time
from afmiddleware.lookups.jwks import FetchedKeys, fetcher

url, seconds = sys.argv[1], float(sys.argv[2])
reached, opened, real = threading.Event(), threading.Event(), fetcher(allow_private=False)

def fetch(url, etag):
    reached.set()
    assert opened.wait(seconds)
    return real(url, etag)

keys = FetchedKeys("https://as.example.com", url, ("ES256",), timer=time.monotonic, fetch=fetch)
waiting = keys.wanted("test-1")
assert reached.wait(seconds)
with keys._lock:
    child = os.fork()
    if not child:
        # Here the fetching thread does not exist, and nobody will ever let go of that lock.
        signal.alarm(round(seconds))
        opened.set()
        os._exit(7 if keys.snapshot() is None and "test-1" in keys.wanted("test-1").result(seconds).keys else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
opened.set()
assert "test-1" in waiting.result(seconds).keys
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_fetches_for_itself(server, source):
    url = f"{server.url}/jwks.json"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, url, str(SECONDS)],
        check=False,
        capture_output=True,
        timeout=2 * SECONDS,
    )
    assert (done.returncode, done.stderr) == (7, b"")
    assert server.seen == ["/jwks.json"] * 2
