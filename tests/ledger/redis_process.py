"""A Redis of a test's own, to kill, stop and start anew."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

PASSWORD = "opens-nothing"


class RedisProcess:
    """A server on a port of its own. What it keeps stands in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--dir", str(self._folder), "--bind", "127.0.0.1"]
        command += ["--save", "", *self._options]
        process = self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ready to accept connections" in line:
                return
        raise AssertionError(said)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._process = None

    def url(self, timeout: str = "2s", more: str = "") -> str:
        return f"redis://127.0.0.1:{self.port}/0?prefix=t&timeout={timeout}{more}"

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with redis.Redis(port=self.port) as client:
            yield client


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
