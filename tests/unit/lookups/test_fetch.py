"""One small JSON document is fetched, from where it should be, in the time and size it may have, or nothing is."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from afmiddleware.lookups.fetch import FetchError, _checked_addresses, _Connection, _Left, fetch_json
from tests.unit.lookups.conftest import says

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

FULL = json.dumps({"x": "a" * (64 * 1024 - 9)}).encode()


WATCHERS: dict[int, list[tuple[str, Any]]] = {}


def watch(event: str, args: tuple[Any, ...]) -> None:
    if WATCHERS and event in ("socket.getaddrinfo", "socket.connect"):
        WATCHERS.get(threading.get_ident(), []).append((event, args))


sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[list[tuple[str, Any]]]:
    """What this thread looks up and connects to, as the interpreter itself tells."""
    events = WATCHERS[threading.get_ident()] = []
    try:
        yield events
    finally:
        del WATCHERS[threading.get_ident()]


def fetch(url: str, **settings: Any) -> Any:
    return fetch_json(url, **{"allow_private": False, **settings})


def chunks(*parts: bytes):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (*parts, b""):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    return answer


def raw(data: bytes):
    return lambda handler: handler.wfile.write(data)


GOOD: dict[str, tuple[Any, Any]] = {
    "json": (says(b'{"keys": []}'), {"keys": []}),
    "a JWKS": (says(b"{}", Content_Type="application/jwk-set+json"), {}),
    "with a charset": (says(b"{}", Content_Type="Application/JSON; charset=utf-8"), {}),
    "any JSON type": (says(b"{}", Content_Type="application/x+json"), {}),
    "in chunks": (chunks(b'{"a"', b": 1}"), {"a": 1}),
    "until the end": (raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[1]"), [1]),
    "named identity": (says(b"{}", Content_Encoding="identity"), {}),
    "64 KiB": (says(FULL), json.loads(FULL)),
}


@pytest.mark.parametrize(("answer", "document"), GOOD.values(), ids=GOOD)
def test_a_document_is_read(server, answer, document):
    assert len(FULL) == 64 * 1024
    server.answer = answer
    assert fetch(f"{server.url}/jwks.json?v=1") == document
    assert server.seen == ["/jwks.json?v=1"]


BAD = {
    "redirect": (says(b"{}", 302, Location="/other"), "answered 302"),
    "redirect for good": (says(b"{}", 308, Location="http://169.254.169.254/"), "answered 308"),
    "not found": (says(b"{}", 404), "answered 404"),
    "broken": (says(b"{}", 500), "answered 500"),
    "a part": (says(b"{}", 206), "answered 206"),
    "nothing": (says(b"", 204), "answered 204"),
    "HTML": (says(b"<html>", Content_Type="text/html"), "not JSON"),
    "JSON called text": (says(b"{}", Content_Type="text/plain"), "not JSON"),
    "of no type": (raw(b"HTTP/1.0 200 OK\r\n\r\n{}"), "not JSON"),
    "compressed": (says(gzip.compress(b"{}"), Content_Encoding="gzip"), "compressed"),
    "compressed without a word": (says(gzip.compress(b"{}")), "UnicodeDecodeError"),
    "a byte too large": (says(FULL + b" "), "larger than 65536"),
    "ten megabytes": (says(b"[" + b" " * 10_000_000 + b"]"), "larger than 65536"),
    "ten megabytes in chunks": (chunks(*[b" " * 65536] * 160), "larger than 65536"),
    "cut off": (says(b'{"keys": [', Content_Length="900"), "JSONDecodeError"),
    "no JSON": (says(b"{keys}"), "JSONDecodeError"),
    "empty": (says(b""), "JSONDecodeError"),
    "nested deep": (says(b"[" * 60_000), "RecursionError"),
    "not UTF-8": (says(b'"\xff"'), "UnicodeDecodeError"),
    "no HTTP": (raw(b"SSH-2.0-x\r\n"), "BadStatusLine"),
    "hung up": (raw(b""), "RemoteDisconnected"),
    "endless headers": (raw(b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 500), "HTTPException"),
    "an endless header": (raw(b"HTTP/1.0 200 OK\r\nA: " + b"b" * 70_000), "LineTooLong"),
}


@pytest.mark.parametrize(("answer", "why"), BAD.values(), ids=BAD)
def test_an_answer_that_is_no_small_json_document_is_refused(server, answer, why):
    server.answer = answer
    with pytest.raises(FetchError, match=why):
        fetch(f"{server.url}/jwks.json")
    assert server.seen == ["/jwks.json"]


def test_what_the_server_sent_is_not_repeated(server):
    for answer in (says(b'{"secret', Content_Type="text/secret"), says(b'{"secret'), raw(b"secret\r\n")):
        server.answer = answer
        with pytest.raises(FetchError) as caught:
            fetch(server.url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 O", b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"])
def test_a_server_that_drips_does_not_hold_us(server, head):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(b" ")
            # As much as it likes, as long as somebody listens.
            handler.connection.settimeout(0.01)
            try:
                if not handler.connection.recv(1):
                    return
            except TimeoutError:
                continue

    server.answer = drip
    times = iter(range(1000))
    with pytest.raises(FetchError, match="took too long"):
        fetch(server.url, timer=lambda: float(next(times)) / 4)
    assert next(times) < 20


PRIVATE = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:a9fe:a9fe::1]/",
    "https://[::a9fe:a9fe]/",
    "https://[::ffff:0:a9fe:a9fe]/",
    "https://[64:ff9b:1::a9fe:a9fe]/",
    "https://[2001:0:a9fe:a9fe::1]/",
    "https://[fec0::1]/",
    "https://[4000::1]/",
    "https://224.0.0.1/",
    "https://[ff02::1]/",
    "https://255.255.255.255/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_an_address_that_is_not_public_is_refused_before_it_is_connected_to(url):
    with watched() as events, pytest.raises(FetchError, match="not public"):
        fetch(url)
    assert [name for name, _ in events] == ["socket.getaddrinfo"]


@pytest.mark.parametrize("address", ["192.0.2.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address):
    assert _checked_addresses(address, 443, plain=False, allow_private=address == "192.0.2.1") == [address]


@pytest.mark.parametrize(
    "url", ["http://203.0.113.7/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://8.8.8.8/"]
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_plain_http_leads_to_loopback_only(url, allow_private):
    with pytest.raises(FetchError, match="plain http"):
        fetch(url, allow_private=allow_private)


@pytest.mark.parametrize(
    "url",
    [
        "https://224.0.0.1/",
        "https://[ff02::1]/",
        "https://169.254.169.254/",
        "https://[::ffff:169.254.169.254]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:a9fe:a9fe::1]/",
        "https://[fe80::1]/",
    ],
)
def test_no_permission_covers_multicast_or_link_local(url):
    with watched() as events, pytest.raises(FetchError, match="never accepted"):
        fetch(url, allow_private=True)
    assert "socket.connect" not in [name for name, _ in events]


def test_permission_covers_the_addresses_of_a_private_network():
    for address in ("10.0.0.1", "127.0.0.1", "fd00::1"):
        assert _checked_addresses(address, 443, plain=False, allow_private=True) == [address]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://127.0.0.1/",
        "data:application/json,{}",
        "http://",
        "https:///x",
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "http://127.0.0.1:1/a b",
        "http://127.0.0.1:1/\x00",
        "http://.../",
        f"http://{'a' * 300}/",
    ],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(FetchError) as caught:
        fetch(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("user", ["user", "user:secret", ":secret", ""])
def test_a_url_with_a_user_s_name_is_refused(server, user):
    with pytest.raises(FetchError, match="not an http or https URL"):
        fetch(server.url.replace("//", f"//{user}@"))
    assert server.seen == []


def test_a_server_that_is_not_there_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(FetchError, match="ConnectionRefusedError"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/")


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_addresses_are_tried_in_turn(server, addresses):
    left = _Left(3.0, lambda: 0.0)
    connection = _Connection("localhost", server.server_port, addresses, left, secure=False)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"{}"
    connection.close()


def test_a_name_is_looked_up_once_and_only_its_addresses_are_connected_to(server):
    with watched() as events:
        fetch(f"http://localhost:{server.server_port}/")
    names = [args[0] for name, args in events if name == "socket.getaddrinfo"]
    assert names[0] == "localhost"
    assert names[1:]
    assert all(ip_address(host).is_loopback for host in names[1:])
    reached = [args[1][0] for name, args in events if name == "socket.connect"]
    assert reached == names[1:]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only 127.0.0.1 is loopback")
def test_an_address_that_never_answers_leaves_the_next_a_chance(server):
    with ExitStack() as open_ones:
        silent = open_ones.enter_context(socket.socket())
        silent.bind(("127.0.0.2", server.server_port))
        silent.listen(0)
        # Its queue is full, so that nobody else gets a word from it.
        for _ in range(4):
            waiting = open_ones.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", server.server_port))
        left = _Left(time.monotonic() + 1, time.monotonic)
        connection = _Connection("localhost", server.server_port, ["127.0.0.2", "127.0.0.1"], left, secure=False)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"{}"
        connection.close()


# TLS


@pytest.fixture
def secure(server, tmp_path):
    """The server behind TLS, as `localhost`; the file of its certificate, and the names it was asked for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file: Path = tmp_path / "server.pem"
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(text + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    names: list[str | None] = []
    context.sni_callback = lambda _sock, asked, _context: names.append(asked)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return file, names


def test_a_server_is_known_by_its_name(server, secure, monkeypatch):
    file, names = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    server.answer = {"keys": []}
    assert fetch(f"https://localhost:{server.server_port}/", allow_private=True) == {"keys": []}
    assert names == ["localhost"]
    with pytest.raises(FetchError, match="SSLCertVerificationError"):
        fetch(f"https://127.0.0.1:{server.server_port}/", allow_private=True)


def test_a_stranger_s_certificate_is_refused(server, secure):
    with pytest.raises(FetchError, match="SSLCertVerificationError"):
        fetch(f"https://localhost:{server.server_port}/", allow_private=True)
    assert server.seen == []
