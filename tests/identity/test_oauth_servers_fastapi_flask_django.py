"""What an authorization server may do to those who need its keys: nothing. Numbers are cases of the index."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from afmiddleware.lookups.jwks import COOLDOWN_SECONDS, HARD_SECONDS, SOFT_SECONDS
from tests.identity.server import SECONDS, AuthorizationServer
from tests.identity.sites import STACKS, Site

every = pytest.mark.parametrize("own", STACKS, indirect=True)


class Later:
    """The time that a key source goes by, put forward by hand."""

    def __init__(self, site: Site, source: str = "") -> None:
        self.seconds = time.monotonic()
        site.keys_of(source)._timer = lambda: self.seconds

    def __call__(self, seconds: float) -> None:
        self.seconds += seconds


class Gate:
    """Keeps those who ask for the keys waiting until it is opened."""

    def __init__(self, server: AuthorizationServer) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._server = server

    async def __call__(self) -> Response:
        self.reached.set()
        await anyio.to_thread.run_sync(self.opened.wait, SECONDS)
        return JSONResponse(self._server.jwks())


def refreshed(site: Site, source: str = "") -> None:
    """Wait for the fetch that is under way, if any."""
    under_way = site.keys_of(source)._under_way
    if under_way is not None:
        under_way.exception(SECONDS)


@every
def test_a_server_that_is_down_at_the_start(own: Site) -> None:  # 33
    later = Later(own)
    own.server.stop()
    token = own.server.mint()
    answer = own.bearer(token)
    assert (answer.status, answer.json["code"]) == (503, "identity.unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert own.send().status == 200
    own.server.start()
    later(5)
    assert own.bearer(token).status == 200


@every
def test_a_server_that_goes_down(own: Site) -> None:  # 34
    later = Later(own)
    token = own.server.mint(exp=int(time.time()) + 80_000)
    assert own.bearer(token).status == 200
    own.server.stop()
    later(SOFT_SECONDS + 1)
    for _ in range(3):
        assert own.bearer(own.server.mint()).status == 200
        refreshed(own)
    later(HARD_SECONDS)
    assert own.bearer(token).status == 503


@every
def test_keys_that_are_rotated(own: Site) -> None:  # 36
    later = Later(own)
    old = own.server.mint()
    assert own.bearer(old).status == 200
    own.server.rotate(keep=True)
    later(COOLDOWN_SECONDS)
    fetches = own.server.fetches()
    assert own.bearer(own.server.mint()).status == 200
    assert own.server.fetches() == fetches + 1
    assert own.bearer(old).status == 200
    own.server.keys = own.server.keys[:1]
    later(SOFT_SECONDS + 1)
    own.bearer(own.server.mint())
    refreshed(own)
    assert own.bearer(old).status == 401
    assert own.bearer(own.server.mint()).status == 200


HOSTILE: dict[str, Callable[[str], Response]] = {
    "redirect": lambda url: RedirectResponse(f"{url}/jwks2"),
    "HTML": lambda _: HTMLResponse("<p>"),
    "ten megabytes": lambda _: Response(b" " * 10_000_000, media_type="application/json"),
    "a bomb": lambda _: Response(
        gzip.compress(bytes(10_000_000)), media_type="application/json", headers={"content-encoding": "gzip"}
    ),
    "no keys": lambda _: JSONResponse({}),
    "no JSON": lambda _: Response(b"{", media_type="application/json"),
    "an error": lambda _: JSONResponse({"keys": []}, 500),
    "deep": lambda _: Response(b"[" * 60_000, media_type="application/json"),
}


@every
@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_is_hostile(own: Site, name: str, caplog: pytest.LogCaptureFixture) -> None:  # 37
    later = Later(own)
    assert own.bearer(own.server.mint()).status == 200
    own.server.answer = HOSTILE[name](own.server.url)
    later(SOFT_SECONDS + 1)
    assert own.bearer(own.server.mint()).status == 200
    refreshed(own)
    assert own.bearer(own.server.mint()).status == 200
    assert "were not read" in caplog.text
    assert "/jwks2" not in own.server.seen


@every
def test_metadata_of_another_issuer(own: Site, caplog: pytest.LogCaptureFixture) -> None:  # 38
    own.server.issuer_said = "https://evil.example.com"
    answer = own.bearer(own.server.mint())
    assert (answer.status, own.server.fetches()) == (503, 0)
    assert "the discovery document names another issuer" in caplog.text


ELSEWHERE = [
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/jwks",
    "http://127.0.0.1.evil.example/jwks",
    "http://[::ffff:169.254.169.254]/jwks",
    "file:///etc/passwd",
    "gopher://127.0.0.1/jwks",
]


@every
@pytest.mark.parametrize("url", ELSEWHERE)
def test_metadata_that_leads_elsewhere(own: Site, url: str, caplog: pytest.LogCaptureFixture) -> None:  # 37
    own.server.keys_at = url
    answer = own.bearer(own.server.mint())
    assert (answer.status, own.server.fetches()) == (503, 0)
    assert "has no jwks_uri on the issuer's host" in caplog.text


@every
@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "203.0.113.9"])
def test_a_name_that_leads_elsewhere_the_second_time(
    own: Site, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # 37
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *rest: Any, **more: Any) -> Any:
        looked_up.append(str(host))
        again = looked_up.count("localhost") > 1
        return real({"localhost": address if again else "127.0.0.1"}.get(host, host), *rest, **more)

    own.server.keys_at = f"{own.server.url.replace('127.0.0.1', 'localhost')}/jwks"
    later = Later(own)
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert own.bearer(own.server.mint()).status == 200
    later(SOFT_SECONDS + 1)
    assert own.bearer(own.server.mint()).status == 200
    refreshed(own)
    assert looked_up.count("localhost") == 2
    assert "plain http is for loopback addresses only" in caplog.text
    # It was not even connected to, and what was read before is believed.
    assert address not in looked_up
    assert (own.bearer(own.server.mint()).status, own.server.fetches()) == (200, 1)


@every
def test_keys_that_cannot_be_used_beside_one_that_can(own: Site, caplog: pytest.LogCaptureFixture) -> None:  # 32
    good = own.server.jwks()["keys"][0]
    second = own.server.rotate(keep=True)
    own.server.keys.reverse()
    bad = [
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        {**good, "kid": "private", "d": "AAAA"},
        {**good, "kid": "enc", "use": "enc"},
        {"kty": "RSA", "kid": "small", "n": "AQAB", "e": "AQAB", "alg": "RS256"},
        {**good, "kid": second},
        {**good, "kid": None},
        *({**good, "kid": f"many-{n}"} for n in range(40)),
    ]
    own.server.more = bad
    assert own.bearer(own.server.mint()).status == 200
    for kid in ("secret", "private", "enc", "small", second, "many-39"):
        assert own.bearer(own.server.mint({"kid": kid})).status == 401
    assert caplog.text.count("is left out") >= 10


@every
def test_a_thousand_made_up_key_ids(own: Site) -> None:  # 8
    later = Later(own)
    good = [own.server.mint(sub=f"agent-{n}") for n in range(50)]
    assert own.bearer(good[0]).status == 200
    own.server.answer = gate = Gate(own.server)
    later(COOLDOWN_SECONDS)
    fetches = own.server.fetches()
    made_up = [own.server.mint({"kid": f"nobody-{n}"}) for n in range(1000)]
    with ThreadPoolExecutor(16) as pool:
        refused = [pool.submit(own.bearer, token) for token in made_up]
        assert gate.reached.wait(SECONDS)
        # The server has not answered yet, and whoever has a good token is served.
        passed = [own.bearer(token).status for token in good]
        answers = [one.result().status for one in refused]
        assert not gate.opened.is_set()
        gate.opened.set()
    assert passed == [200] * 50
    # Those few that waited for the answer in vain cannot be told; all others are refused.
    assert set(answers) <= {401, 503}
    assert answers.count(401) >= 990
    assert own.server.fetches() == fetches + 1


@every
def test_five_hundred_at_once_while_the_server_is_slow(own: Site) -> None:  # 35
    later = Later(own)
    assert own.bearer(own.server.mint()).status == 200
    own.server.answer = gate = Gate(own.server)
    later(SOFT_SECONDS + 1)
    fetches = own.server.fetches()
    tokens = [own.server.mint(sub=f"agent-{n}") for n in range(500)]
    with ThreadPoolExecutor(50) as pool:
        answers = [answer.status for answer in pool.map(own.bearer, tokens)]
        assert not gate.opened.is_set()
        gate.opened.set()
    assert answers == [200] * 500
    assert own.server.fetches() == fetches + 1


@every
def test_introspection_that_is_down_slow_or_wrong(own: Site) -> None:
    token = own.server.opaque()
    failing: list[Any] = [
        JSONResponse({"active": True}, 500),
        JSONResponse({"active": "yes"}),
        HTMLResponse("<p>"),
        RedirectResponse("/introspect2"),
        JSONResponse({"error": "invalid_client"}, 401),
    ]
    for answer in failing:
        own.server.introspection = answer
        told = own.bearer(token)
        assert (told.status, told.json["code"]) == (503, "identity.unavailable")
    own.server.introspection = None
    assert own.bearer(token).status == 200
    own.server.stop()
    assert own.bearer(token).status == 200
    assert own.bearer(own.server.opaque()).status == 503


@every
def test_one_question_for_many_who_ask_the_same(own: Site) -> None:
    token, opened, reached = own.server.opaque(), threading.Event(), threading.Event()

    async def slow() -> Response:
        reached.set()
        await anyio.to_thread.run_sync(opened.wait, SECONDS)
        return JSONResponse(own.server.tokens[token])

    own.server.introspection = slow
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(own.bearer, token) for _ in range(20)]
        assert reached.wait(SECONDS)
        # While the server thinks, others are served.
        assert own.send().status == 200
        opened.set()
        assert {one.result().status for one in asked} == {200}
    # Some come at the very moment of the answer: they found nothing remembered, and nobody who still asks.
    assert own.server.seen.count("/introspect") <= 5
