"""An issuer's server on loopback that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from afmiddleware.lookups.fetch import Document
from afmiddleware.lookups.jwks import USUAL, FetchedKeys, KeyTimes, fetcher
from afmiddleware.testing import mint_es256_issuer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afmiddleware.identity.keyset import KeySet

ISSUER = mint_es256_issuer()
SECONDS = 30.0
"""How long a test waits for what must come; it never takes that long."""


class Server(ThreadingHTTPServer):
    """Answers every GET with `answer`: a document, or a function that is given the handler."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Any = {}
        self.seen: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client hung up, as it should on some of these answers."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        answer = self.server.answer
        if callable(answer):
            answer(self)
        else:
            send(self, json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        pass


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | named).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def says(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, body, status, **headers)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Source:
    """A key source whose time a test moves."""

    def __init__(
        self, url: str, fetch: Callable[[str], Any] | None = None, discovery: str = "", times: KeyTimes = USUAL
    ) -> None:
        self.now = 1000.0
        self.keys = FetchedKeys(
            "https://as.example.com" if not discovery else url.removesuffix("/.well-known/openid-configuration"),
            url,
            ("ES256",),
            discovery=discovery,
            timer=lambda: self.now,
            fetch=fetcher(allow_private=False) if fetch is None else lambda url, _etag: Document(fetch(url)),
            times=times,
        )

    def load(self, kid: str = "test-1") -> KeySet:
        """The keys after one more look for `kid`, when the fetch under way has ended."""
        return self.keys.wanted(kid).result(SECONDS)

    def kids(self) -> list[str] | None:
        found = self.keys.snapshot()
        return None if found is None else sorted(found.keys)


class Gate:
    """Answers with `document` once it is opened, and says when somebody stands before it."""

    def __init__(self, document: Any) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.document = document

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.reached.set()
        assert self.opened.wait(SECONDS)
        send(handler, json.dumps(self.document).encode())

    def fetch(self, _url: str) -> Any:
        self.reached.set()
        assert self.opened.wait(SECONDS)
        return self.document


@pytest.fixture
def source(server: Server) -> Source:
    server.answer = ISSUER.jwks
    return Source(f"{server.url}/jwks.json")
