"""Requests as bytes, and what comes back."""

from __future__ import annotations

import json
import socket

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

PATIENCE = 20.0


class Answer(msgspec.Struct, frozen=True):
    """The first answer on a connection; status 0 where the server closed it without one."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def code(self) -> str:
        """The reason code of a refusal of the fence, nothing for any other answer.

        Of the refusals of several calls that of the first which was refused for its own sake.
        """
        if ("content-type", "application/problem+json") in self.headers:
            return str(json.loads(self.body).get("code", "")) if self.body else f"a refusal with {self.status}"
        if b'"jsonrpc"' not in self.body:
            return ""
        told = json.loads(self.body)
        errors = [one.get("error", {}).get("data", {}) for one in (told if isinstance(told, list) else [told])]
        codes = [str(data["code"]) for data in errors if "code" in data]
        return next((code for code in codes if code != "request.batch_refused"), "")

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def send(port: int, parts: list[bytes], *, half_close: bool = False) -> bytes:
    """Send the parts, with `half_close` the end of them too, and read until the server closes. Raises `TimeoutError`."""
    received = []
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received.append(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server has read enough
    return b"".join(received)


def send_h2(port: int, headers: list[tuple[str, str]], body: bytes) -> Answer:
    """Send one request over HTTP/2 without TLS, as it is, and return what comes back. Raises `TimeoutError`."""
    as_it_is = H2Configuration(
        header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = H2Connection(as_it_is)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=not body)
    if body:
        connection.send_data(1, body, end_stream=True)
    events: list[Event] = []
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        plain.sendall(connection.data_to_send())
        while not any(isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)) for event in events):
            piece = plain.recv(65536)
            if not piece:
                break
            events += connection.receive_data(piece)
    told = [
        (str(name), str(value))
        for event in events
        if isinstance(event, ResponseReceived)
        for name, value in event.headers
    ]
    parts = [event.data for event in events if isinstance(event, DataReceived)]
    status = next((int(value) for name, value in told if name == ":status"), 0)
    return Answer(status, tuple(told), b"".join(parts))


def answers(received: bytes) -> list[Answer]:
    """The answers in what a server sent, as far as their lengths are told."""
    found = []
    while received.startswith(b"HTTP/"):
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        pairs = [line.partition(":") for line in lines]
        headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
        if 100 <= status < 200:
            received = rest
            continue
        length = next((int(value) for name, value in headers if name == "content-length"), None)
        body = rest if length is None else rest[:length]
        received = b"" if length is None else rest[length:]
        found.append(Answer(status, headers, body))
    return found
