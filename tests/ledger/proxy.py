"""A network between a ledger and its server that breaks when a test wants it to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on until `cut` is `sent` (a COMMIT comes from the client) or `done` (its answer comes back).

    Then the connection ends on both sides before those bytes are passed on, once; or, with an `instead`, after the first
    part of the answer, that the transaction is committed, and after those bytes in the place of the rest. With another `mark` than PostgreSQL's the answer is whatever comes after the request that holds it.
    """

    def __init__(self, upstream: str, mark: bytes = b"") -> None:
        self._mark = mark
        self._due = False
        parts = urlsplit(upstream)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut = ""
        self.cuts = 0
        self.instead = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """The same URL, by way of here."""
        host, port = self._target
        return url.replace(f"{host}:{port}", f"127.0.0.1:{self._listener.getsockname()[1]}")

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
                pair = (client, server)
                threading.Thread(target=self._pump, args=(client, server, "sent", pair), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, "done", pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, when: str, pair: tuple[socket.socket, ...]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                asked = (self._mark or b"COMMIT\0") in data
                if self._mark and when == "sent":
                    self._due = self._due or (asked and self.cut == "done")
                if self.cut == when and (self._due if self._mark and when == "done" else asked):
                    self._due = False
                    self.cut = ""
                    self.cuts += 1
                    if when == "done" and self.instead:
                        done = data.index(b"COMMIT\0") + len(b"COMMIT\0")
                        sink.sendall(data[:done] + self.instead)
                    break
                sink.sendall(data)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
