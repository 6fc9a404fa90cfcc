"""Where requests come from, through real servers of every framework. Numbers are cases of the index.

All of 127.0.0.0/8 is this machine, so that a proxy and its clients connect from addresses of their own.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from afmiddleware.identity.jose import digest64
from tests.identity.server import AuthorizationServer
from tests.identity.sites import STACKS, Site
from tests.integrations.agents.test_certificates_fastapi_flask_django import certificate

PROXY, CLIENT, PROXIES = "127.0.0.5", "127.0.0.77", "127.0.0.0/28"
TRUSTED = f"proxy: {{mode: trusted, trusted_proxies: [{PROXIES}]}}"
DER = certificate()
CERT = f":{b64encode(DER).decode()}:"
KNOWS = f"client_cert: {{clients: [{{name: partner, thumbprint: {digest64(DER)}}}]"
CALLS = "{name: calls, rate: 2/day, per: actor}"
Make = Callable[..., Site]


@pytest.fixture(params=STACKS)
def at(request: pytest.FixtureRequest, server: AuthorizationServer, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(settings: str, limits: str = CALLS) -> Site:
            site = Site(request.param, tmp_path, server, settings=settings, limits=limits)
            stack.callback(site.close)
            return site

        yield make


def statuses(site: Site, *headers: tuple[str, str], source: str = PROXY) -> list[int]:
    return [site.send(one, source=source).status for one in headers]


def test_forging_moves_nobody(at: Make) -> None:  # 69
    forged = [("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "for=1.1.1.2"), ("X-Real-IP", "1.1.1.3")]
    for settings, source in (("proxy: {mode: direct}", PROXY), (TRUSTED, CLIENT)):
        assert statuses(at(settings), *forged, source=source) == [200, 200, 429]


def test_behind_one_proxy(at: Make) -> None:  # 70, 72, 73
    site = at(TRUSTED)
    written = ["{0}", "1.1.1.1, {0}", "1.1.1.2,{0}:4711", "::ffff:{0}", "[::ffff:{0}]:99"]
    lines = [("X-Forwarded-For", text.format("203.0.113.9")) for text in written]
    assert statuses(site, *lines) == [200, 200, 429, 429, 429]
    assert statuses(site, ("X-Forwarded-For", "198.51.100.1")) == [200]
    # What cannot be read is the proxy's own, and an underscore makes no header of it.
    garbage = [("X-Forwarded-For", text) for text in ("unknown", "1.2.3", "<script>", "1.1.1.1, ")]
    assert statuses(site, *garbage) == [200, 200, 429, 429]
    assert site.send(("X_Forwarded_For", "198.51.100.2"), source=PROXY).status in (400, 429)


def test_nothing_but_proxies(at: Make) -> None:  # 71
    site = at(TRUSTED)
    first = ("X-Forwarded-For", "127.0.0.9, 127.0.0.8, 127.0.0.7")
    further = ("X-Forwarded-For", "203.0.113.9, 127.0.0.9, 127.0.0.8, 127.0.0.7")
    another = ("X-Forwarded-For", "127.0.0.10, 127.0.0.8, 127.0.0.7")
    # The leftmost that is read stands for the client, and no more than three are.
    assert statuses(site, first, further, first, another) == [200, 200, 429, 200]


def test_many_addresses_of_one_network(at: Make) -> None:  # 74
    site = at(TRUSTED)
    near = [("X-Forwarded-For", f"2001:db8:1:1:{n:x}::1") for n in range(0, 2**16, 2**12)]
    assert statuses(site, *near) == [200, 200] + [429] * 14
    # Four times as much in a /56, sixteen times in a /48.
    beside = [("X-Forwarded-For", f"2001:db8:2:{n:x}::1") for n in range(10)]
    assert statuses(site, *beside) == [200] * 8 + [429] * 2
    around = [("X-Forwarded-For", f"2001:db8:3:{n << 8:x}::1") for n in range(34)]
    assert statuses(site, *around) == [200] * 32 + [429] * 2


def test_a_certificate_is_believed_of_a_proxy_that_verified_it(at: Make) -> None:  # 75
    site = at(f"{TRUSTED}\n  {KNOWS}, verified_header: x-verified}}", "")
    good = (("Client-Cert", CERT), ("X-Verified", "SUCCESS"))
    assert site.send(*good, source=PROXY).json["id"] == "cert:partner"
    assert site.send(*good, source=CLIENT).json["tier"] == "anonymous"
    for more in ([], [("X-Verified", "FAILED")], [good[1], good[1]]):
        assert site.send(good[0], *more, source=PROXY).status == 401


def chunked(where: str, head: str, trailer: str) -> bytes:
    """A request that comes in one packet with its trailer."""
    body = json.dumps({"amount": "1"})
    lines = f"POST {where} HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\nConnection: close\r\n"
    lines += f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n{trailer}\r\n"
    return lines.encode()


@pytest.fixture
def taken(server: AuthorizationServer, tmp_path: Path) -> Iterator[Make]:
    """Sites under a server that takes a trailer for a header when it comes in one packet with the head."""
    pytest.importorskip("httptools")
    with ExitStack() as stack:

        def make(settings: str, limits: str = CALLS) -> Site:
            site = Site("fastapi", tmp_path, server, settings=settings, limits=limits)
            stack.callback(site.close)
            return site

        yield make


def test_a_trailer_is_no_header_of_the_proxys(taken: Make) -> None:
    site = taken(TRUSTED)
    key = ("X-API-Key", site.fence.keys.create("acme", networks=["198.51.100.0/24"]).text)
    head, spoof = f"{key[0]}: {key[1]}\r\nX-Forwarded-For: 203.0.113.9\r\n", "X-Forwarded-For: 198.51.100.1\r\n"
    assert site.raw(chunked("/pay", head, ""), PROXY).startswith(b"HTTP/1.1 401")
    for name in ("X-Forwarded-For", "x-forwarded-for"):
        answer = site.raw(chunked("/pay", head, spoof.replace("X-Forwarded-For", name)), PROXY)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert b"request.ambiguous" in answer
    # It is the trailer that is refused, and two lines of two proxies are not.
    there = head.replace("203.0.113.9", "198.51.100.1")
    assert site.raw(chunked("/pay", there, "X-Trace: 1\r\n"), PROXY).startswith(b"HTTP/1.1 200")
    two = (("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.1"))
    assert site.send(key, *two, source=PROXY).status == 200


def test_a_refused_trailer_is_not_counted_where_it_points_to(taken: Make) -> None:
    site = taken(TRUSTED)
    spoof = chunked("/pay", "X-Forwarded-For: 203.0.113.9\r\n", "X-Forwarded-For: 198.51.100.1\r\n")
    for _ in range(3):
        site.raw(spoof, PROXY)
    for client in ("203.0.113.9", "198.51.100.1"):
        assert statuses(site, ("X-Forwarded-For", client)) == [200]


def test_a_trailer_that_the_server_itself_believes_is_refused(taken: Make) -> None:
    site = taken("proxy: {mode: server}")
    # uvicorn believes the headers of 127.0.0.1 unless it is told otherwise.
    assert statuses(site, *[("X-Forwarded-For", "203.0.113.9")] * 3, source="127.0.0.1") == [200, 200, 429]
    for _ in range(3):
        head, trailer = "X-Forwarded-For: 203.0.113.9\r\n", "X-Forwarded-For: 198.51.100.1\r\n"
        answer = site.raw(chunked("/pay", head, trailer))
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 429")), answer
    assert statuses(site, ("X-Forwarded-For", "198.51.100.1"), source="127.0.0.1") == [200]


def test_a_certificate_that_comes_as_a_trailer_is_none(taken: Make) -> None:
    forged = f"Client-Cert: {CERT}\r\n"
    site = taken(f"{TRUSTED}\n  {KNOWS}}}", "")
    assert site.send(("Client-Cert", CERT), source=PROXY).json["id"] == "cert:partner"
    assert site.raw(chunked("/pay", "", forged), PROXY).startswith(b"HTTP/1.1 401")
    # A proxy that says of every request what it verified is believed of chunked ones too.
    site = taken(f"{TRUSTED}\n  {KNOWS}, verified_header: x-verified}}", "")
    answer = site.raw(chunked("/pay", f"{forged}X-Verified: SUCCESS\r\n", ""), PROXY)
    assert answer.startswith(b"HTTP/1.1 200")
    forged += "X-Verified: SUCCESS\r\n"
    assert site.raw(chunked("/pay", "X-Verified: NONE\r\n", forged), PROXY).startswith(b"HTTP/1.1 401")
