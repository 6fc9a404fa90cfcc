"""What a key source asks of its server, and when: as seldom as it can, and never in the way of others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.keyset import read_keyset
from afmiddleware.lookups.jwks import COOLDOWN_SECONDS, MAX_WAITING, SOFT_SECONDS, UNKNOWN_SECONDS, KeyTimes
from afmiddleware.testing import mint_es256_issuer
from tests.unit.lookups.conftest import ISSUER, SECONDS, Gate, Source, says, send

NEXT = mint_es256_issuer(kid="test-2")


def body(document: Any) -> bytes:
    import json

    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("max-age=120", 120),
        ("public, MAX-AGE=120, must-revalidate", 120),
        ("max-age=1", 60),
        ("no-cache", 60),
        ("max-age=999999", 3600),
        ("s-maxage=120", SOFT_SECONDS),
        ("max-age=many", SOFT_SECONDS),
        ("", SOFT_SECONDS),
    ],
)
def test_keys_are_fresh_for_as_long_as_their_server_says_within_bounds(server, source, said, seconds):
    server.answer = says(body(ISSUER.jwks), Cache_Control=said)
    source.load()
    source.now += seconds
    source.keys.snapshot()
    assert source.keys._under_way is None
    source.now += 0.1
    source.keys.snapshot()
    source.load("nobody")
    assert len(server.seen) == 2


def test_unchanged_keys_are_not_sent_again(server, source):
    asked = []

    def answer(handler: Any) -> None:
        asked.append(handler.headers.get("if-none-match"))
        if asked[-1] == '"v1"':
            send(handler, b"", 304, ETag='"v1"')
        else:
            send(handler, body(ISSUER.jwks), ETag='"v1"')

    server.answer = answer
    first = source.load()
    for _ in range(3):
        source.now += SOFT_SECONDS + 1
        source.keys.snapshot()
        assert source.load("nobody").generation == first.generation
    assert asked == [None, '"v1"', '"v1"', '"v1"']
    assert source.kids() == ["test-1"]


def test_a_version_that_nobody_asked_for_is_no_document(server, source):
    server.answer = says(b"", 304)
    with pytest.raises(IdentityUnavailableError):
        source.load()


def test_a_server_that_asks_to_be_left_alone_is_left_alone(server, source):
    source.load()
    server.answer = says(b"", 503, Retry_After="120")
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    source.load("nobody")
    for _ in range(119):
        source.now += 1
        source.keys.snapshot()
        source.load("another")
    assert len(server.seen) == 2
    server.answer = ISSUER.jwks
    source.now += 2
    source.keys.snapshot()
    source.load("a third")
    assert len(server.seen) == 3


def test_a_key_id_that_was_looked_for_in_vain_is_not_looked_for_again_for_a_minute(server, source):
    source.load()
    source.now += COOLDOWN_SECONDS
    source.load("nobody")
    source.now += UNKNOWN_SECONDS - 1
    source.load("nobody")
    assert len(server.seen) == 2
    source.now += 1
    source.load("nobody")
    assert len(server.seen) == 3


def test_strangers_do_not_wait_in_rows_for_a_slow_server(server, source):
    first = source.load()
    server.answer = gate = Gate(NEXT.jwks)
    source.now += COOLDOWN_SECONDS
    waiting = [source.keys.wanted(f"nobody-{n}") for n in range(1000)]
    assert gate.reached.wait(SECONDS)
    assert sum(not one.done() for one in waiting) == MAX_WAITING
    assert all(one.result(0) is first for one in waiting if one.done())
    # Who has a known key is not concerned.
    assert source.keys.snapshot() is first
    assert source.keys.wanted("test-1").result(0) is first
    gate.opened.set()
    assert all(one.result(SECONDS) is not None for one in waiting)
    assert len(server.seen) == 2


def test_at_the_start_everybody_waits_for_the_first_keys(server, source):
    server.answer = gate = Gate(ISSUER.jwks)
    waiting = [source.keys.wanted("test-1") for _ in range(50)]
    assert gate.reached.wait(SECONDS)
    assert not any(one.done() for one in waiting)
    gate.opened.set()
    assert all("test-1" in one.result(SECONDS).keys for one in waiting)
    assert len(server.seen) == 1


def test_the_times_are_those_of_the_policy(server):
    times = KeyTimes(soft=100, hard=200, cooldown=5)
    source = Source(f"{server.url}/jwks.json", times=times)
    server.answer = ISSUER.jwks
    source.load()
    source.now += 5
    source.load("nobody")
    assert len(server.seen) == 2
    server.answer = says(b"", 500)
    source.now += 200
    assert source.keys.snapshot() is not None
    source.load("other")
    source.now += 0.1
    assert source.keys.snapshot() is None


def test_metadata_is_read_once_a_day(server):
    where = f"{server.url}/.well-known/openid-configuration"
    source = Source(where, discovery="oidc")
    documents = {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
    server.answer = lambda handler: send(handler, body(ISSUER.jwks if handler.path == "/keys" else documents))
    source.load()
    for _ in range(287):
        source.now += SOFT_SECONDS + 1
        source.keys.snapshot()
        source.load("nobody")
    assert server.seen.count("/.well-known/openid-configuration") == 1
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    source.load("nobody")
    assert server.seen.count("/.well-known/openid-configuration") == 2


def test_metadata_is_read_again_when_the_keys_have_moved(server):
    source = Source(f"{server.url}/.well-known/openid-configuration", discovery="oidc")
    place = ["/old"]

    def answer(handler: Any) -> None:
        if handler.path == place[0]:
            send(handler, body(ISSUER.jwks))
        elif handler.path.startswith("/.well"):
            send(handler, body({"issuer": server.url, "jwks_uri": server.url + place[0]}))
        else:
            send(handler, b"", 404)

    server.answer = answer
    source.load()
    place[0] = "/new"
    source.now += SOFT_SECONDS + 1
    source.keys.snapshot()
    source.load("nobody")
    source.now += COOLDOWN_SECONDS + 1
    source.keys.snapshot()
    source.load("nobody")
    assert server.seen[-2:] == ["/.well-known/openid-configuration", "/new"]


def test_keys_on_another_host_are_read_where_the_policy_says_so(server):
    source = Source(f"{server.url}/.well-known/openid-configuration", discovery="oidc")
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    documents = {"issuer": server.url, "jwks_uri": f"{elsewhere}/keys"}
    server.answer = lambda handler: send(handler, body(ISSUER.jwks if handler.path == "/keys" else documents))
    with pytest.raises(IdentityUnavailableError):
        source.load()
    source.keys._hosts = ("localhost",)
    source.now += 10
    assert sorted(source.load().keys) == ["test-1"]


def test_a_key_has_its_time():
    jwk = ISSUER.jwks["keys"][0]
    one = read_keyset({"keys": [{**jwk, "nbf": 100, "exp": 200}]}, ("ES256",)).keys["test-1"]
    assert [one.is_good(at * 1_000_000) for at in (99, 100, 199, 200)] == [False, True, True, False]
    for bad in ({"nbf": "100"}, {"exp": 1.5}, {"exp": -1}, {"nbf": True}):
        assert read_keyset({"keys": [{**jwk, **bad}]}, ("ES256",)).keys == {}


def test_many_threads_with_made_up_key_ids_cause_one_fetch(server, source):
    source.load()
    source.now += COOLDOWN_SECONDS
    gate = threading.Barrier(20)

    def run(name: int) -> None:
        gate.wait()
        for number in range(50):
            source.keys.wanted(f"{name}-{number}").result(SECONDS)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 2
