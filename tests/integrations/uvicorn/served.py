"""A fenced application in a server process of its own, and the policy in front of it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx

from afmiddleware.cli.common import policy_at
from afmiddleware.cli.receipts import verify_policy
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter, Reader
from afmiddleware.ledger.open import open_for_reading, open_for_tools
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import Report

HERE = Path(__file__).parent
PATIENCE = 30.0

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
  - {route: WEBSOCKET /open, public: true}
rules:
  allow: [{capability: "**", identity: token}]
limits:
  - {name: cap, spend: 100 USD, window: total, per: global}
receipts:
  anchor: {file: anchor.json, every: 1s}
"""


class Site:
    """A folder with a policy, a ledger and keys; servers may be started on it."""

    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        self.folder = folder
        self.policy = folder / "fence.yaml"
        self.policy.write_text(policy, encoding="utf-8")

    def key(self, account: str) -> str:
        """A new API key of an account."""
        ledger = open_for_tools(*policy_at(str(self.policy)))
        try:
            text, record = new_key(account, secrets.token_bytes, now=system_clock())
            ledger.put_api_key(record)
        finally:
            ledger.close()
        return text

    def ledger(self) -> Reader:
        """The ledger, to be read."""
        return open_for_reading(*policy_at(str(self.policy)))

    def bodies(self, kind: str = "") -> list[dict[str, object]]:
        """The bodies of the receipts of a kind."""
        ledger = self.ledger()
        try:
            return [strict_parse(stored.receipt.body) for stored in ledger.receipts(Filter(kind=kind))]
        finally:
            ledger.close()

    def counted(self, cell: str = "cap/total/USD", key: str = "global") -> int:
        """What a limit has counted."""
        ledger = self.ledger()
        try:
            row = ledger.rows([key]).get(key)
        finally:
            ledger.close()
        return row.cells[cell].total if row is not None and cell in row.cells else 0

    def owed(self) -> int:
        """What the receipts say is captured or still held, in minor units."""
        amounts: dict[str, int] = {}
        for body in self.bodies():
            if body["kind"] == "intent":
                amounts[str(body["id"])] = int(str(body["amount"] or 0))
            elif body["kind"] == "outcome":
                amounts[str(body["id"])] = int(str(body["captured"] or 0))
        return sum(amounts.values())

    def verified(self) -> Report:
        """The check of the log."""
        return verify_policy(str(self.policy))


class Server:
    """`app.py` beside this file under uvicorn, at a loopback port that was free."""

    def __init__(self, site: Site, http: str = "h11", marks: Path | None = None, workers: int = 1) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._socket.set_inheritable(True)
        self.port: int = self._socket.getsockname()[1]
        fd = self._socket.fileno()
        command = [sys.executable, "-m", "uvicorn", "--factory", "app:create", "--app-dir", str(HERE), "--fd", str(fd)]
        command += ["--http", http, "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
        command += ["--workers", str(workers)] if workers > 1 else []
        environment = {**os.environ, "AFM_POLICY": str(site.policy), "TEST_MARKS": str(marks or site.folder / "marks")}
        self._log = (site.folder / f"server-{self.port}.log").open("wb")
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

    def get(self, path: str) -> httpx.Response:
        """GET without a credential."""
        return httpx.get(self.base + path, timeout=PATIENCE)

    def pay(self, key: str, amount: str) -> httpx.Response:
        """Pay so many dollars."""
        content = json.dumps({"amount": amount}).encode()
        return httpx.post(self.base + "/pay", headers=headers(key), content=content, timeout=PATIENCE)

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


def headers(key: str) -> dict[str, str]:
    """The headers of a paying request."""
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}
