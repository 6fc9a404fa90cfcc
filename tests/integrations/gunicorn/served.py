"""A fenced Flask application under gunicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.integrations.uvicorn.served import PATIENCE, Site

HERE = Path(__file__).parent

POLICY = """
version: 1
service: test
ledger: sqlite:///fence.db
identity: {api_keys: {store: ledger}}
routes:
  - {route: GET /health, public: true}
  - {route: GET /ran, public: true}
  - {route: POST /pay, capability: payments.pay, amount: {from: body.amount}}
  - {route: GET /stream, capability: reports.stream, amount: 1 USD}
rules:
  allow: [{capability: "**", identity: token}]
limits:
  - {name: cap, spend: 100 USD, window: total, per: global}
receipts:
  anchor: {file: anchor.json, every: 1s}
"""


class Gunicorn:
    """`app.py` beside this file under gunicorn, at a loopback port that was free."""

    def __init__(
        self, site: Site, worker: str = "gthread", *, workers: int = 1, threads: int = 60, preload: bool = False
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._socket.set_inheritable(True)
        self.port: int = self._socket.getsockname()[1]
        fd = self._socket.fileno()
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{fd}", "--chdir", str(HERE)]
        command += ["--worker-class", worker, "--workers", str(workers), "--graceful-timeout", "10"]
        command += ["--threads", str(threads if worker == "gthread" else 1), "--log-level", "warning"]
        command += ["--no-control-socket", *(["--preload"] if preload else []), "app:create()"]
        environment = {**os.environ, "AFM_POLICY": str(site.policy), "TEST_MARKS": str(site.folder / "marks")}
        self.log = site.folder / f"server-{self.port}.log"
        self._log = self.log.open("wb")
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=[fd], stdout=self._log, stderr=self._log, cwd=HERE
        )
        self.base = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
        self._socket.close()
        self._log.close()

    def raw(self, request: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes, with `half_close` also their end, and read until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)
