"""A body that comes long after its head is not judged by what held then."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.fence import Fence
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiFence
from afmiddleware.testing import FrozenClock

POLICY = """
version: 1
service: s
ledger: memory
routes: [{route: POST /pay, capability: shop.pay, amount: {from: body.amount}}]
rules:
  allow: [shop.pay]
"""
BODY = b'{"amount": "9.00"}'


class Slow:
    """A fence, and what happens between the head of a request and its body."""

    def __init__(self, folder: Path, wait: float, *, change: bool) -> None:
        self._file = folder / "fence.yaml"
        self._file.write_text(POLICY, "utf-8")
        self._wait, self._change = wait, change
        self.clock = FrozenClock()
        self.fence = Fence.from_file(self._file, env={}, clock=self.clock)
        self.ran = 0

    def meanwhile(self) -> None:
        self.clock.advance(self._wait)
        if self._change:
            self._file.write_text(POLICY + "  deny: [shop.pay]\n", "utf-8")
            assert self.fence.reload()


CASES = [(9, True, 200), (11, True, 503), (299, False, 200), (301, False, 503)]


@pytest.mark.anyio
@pytest.mark.parametrize(("wait", "change", "status"), CASES)
async def test_over_asgi(tmp_path: Path, wait: float, change: bool, status: int) -> None:
    slow = Slow(tmp_path, wait, change=change)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        slow.ran += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Any:
        slow.meanwhile()
        return {"type": "http.request", "body": BODY}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"a"), (b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/pay",
        "raw_path": b"/pay",
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.9", 1),
    }
    await FenceMiddleware(app, fence=slow.fence)(scope, receive, send)
    assert (sent[0]["status"], slow.ran) == (status, int(status == 200))
    if status == 503:
        assert json.loads(sent[1]["body"])["code"] == "policy.unavailable"


@pytest.mark.parametrize(("wait", "change", "status"), CASES)
def test_over_wsgi(tmp_path: Path, wait: float, change: bool, status: int) -> None:
    slow = Slow(tmp_path, wait, change=change)

    class Body(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not self.tell():
                slow.meanwhile()
            return super().read(size)

    def app(_environ: Any, start: Any) -> list[bytes]:
        slow.ran += 1
        start("200 OK", [])
        return [b""]

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/pay",
        "QUERY_STRING": "",
        "REMOTE_ADDR": "203.0.113.9",
        "HTTP_HOST": "a",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.input": Body(BODY),
    }
    told: list[str] = []

    def start(said: str, *_: Any) -> Any:
        told.append(said)
        return lambda _part: None

    list(WsgiFence(app, fence=slow.fence)(environ, start))
    assert (int(told[0][:3]), slow.ran) == (status, int(status == 200))
