"""A pooler of PostgreSQL connections, as PgBouncer is with `pool_mode = transaction`: a server for one transaction.

It speaks the frontend/backend protocol 3.0 as far as that takes: it greets as itself, forwards messages, and when the
server is idle again and has answered everything, hands it to whoever comes next.
"""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from psycopg.conninfo import conninfo_to_dict

_GREETED: Final = struct.Struct("!ii")
_SSL, _GSS = 80877103, 80877104


class _GoneError(Exception):
    """One side has hung up."""


class _Side:
    """One end of a conversation, read message by message."""

    def __init__(self, of: socket.socket) -> None:
        of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = of
        self._read = b""

    def more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise _GoneError
        self._read += data

    def messages(self) -> Iterator[bytes]:
        """Every whole message that has come: its type, its length, its content."""
        while len(self._read) >= 5:
            end = 1 + int.from_bytes(self._read[1:5])
            if len(self._read) < end:
                return
            message, self._read = self._read[:end], self._read[end:]
            yield message


def _connect(conninfo: str) -> tuple[_Side, bytes]:
    """A connection to the server, which trusts, and what it said of its settings."""
    said = conninfo_to_dict(conninfo)
    side = _Side(socket.create_connection((str(said.get("host") or "127.0.0.1"), int(str(said.get("port") or 5432)))))
    names = {"user": said["user"], "database": said["dbname"], "client_encoding": "utf8"}
    text = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
    side.socket.sendall(struct.pack("!ii", 8 + len(text), 196608) + text)
    settings = b""
    while True:
        side.more()
        for message in side.messages():
            if message[:1] == b"S":
                settings += message
            elif message[:1] == b"Z":
                return side, settings


@contextmanager
def pooler(conninfo: str, servers: int = 2) -> Iterator[int]:
    """The port of a pooler in front of the server of `conninfo`."""
    made = [_connect(conninfo) for _ in range(servers)]
    free: queue.Queue[_Side] = queue.Queue()
    for side, _ in made:
        free.put(side)
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    client, _ = door.accept()
                except OSError:
                    return
                clients.append(client)
                threading.Thread(target=_serve, args=(_Side(client), free, made[0][1]), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield door.getsockname()[1]
        finally:
            for one in (door, *clients, *(side.socket for side, _ in made)):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


def _serve(client: _Side, free: queue.Queue[_Side], settings: bytes) -> None:
    with suppress(_GoneError, OSError):
        while True:
            size, code = _GREETED.unpack(client.socket.recv(8, socket.MSG_WAITALL))
            client.socket.recv(size - 8, socket.MSG_WAITALL)
            if code not in (_SSL, _GSS):
                break
            client.socket.sendall(b"N")
        key = b"K" + struct.pack("!iii", 12, 1, 1)
        client.socket.sendall(b"R" + struct.pack("!ii", 8, 0) + settings + key + b"Z" + struct.pack("!i", 5) + b"I")
        while True:
            client.more()
            waiting = [*client.messages()]
            if waiting and waiting[0][:1] != b"X":
                server = free.get()
                _transaction(client, server, waiting)
                free.put(server)


def _transaction(client: _Side, server: _Side, waiting: list[bytes]) -> None:
    """Forward both ways until the server has answered everything and is in no transaction."""
    asked = answered = 0
    while True:
        for message in waiting:
            if message[:1] == b"X":
                raise _GoneError
            asked += message[:1] in (b"Q", b"S")
            server.socket.sendall(message)
        waiting = []
        ready, _, _ = select.select([client.socket, server.socket], [], [])
        if server.socket in ready:
            server.more()
            for message in server.messages():
                client.socket.sendall(message)
                if message[:1] == b"Z":
                    answered += 1
                    if answered == asked and message[5:6] == b"I":
                        return
        if client.socket in ready:
            client.more()
            waiting = [*client.messages()]
