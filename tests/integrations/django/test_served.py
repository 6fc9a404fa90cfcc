"""The fence in Django under real servers: gunicorn with threads and processes (WSGI), uvicorn (ASGI)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import django
import httpx
import pytest

from tests.integrations.gunicorn.served import POLICY
from tests.integrations.uvicorn.served import PATIENCE, Site, headers

APP = Path(__file__).parent / "served"


class Served:
    """`served/site_app.py` under a server, at a loopback port that was free."""

    def __init__(self, site: Site, kind: str, workers: int = 1) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._socket.set_inheritable(True)
        self.port: int = self._socket.getsockname()[1]
        fd = str(self._socket.fileno())
        gunicorn = ["gunicorn", "--bind", f"fd://{fd}", "--chdir", str(APP), "--worker-class", "gthread"]
        gunicorn += ["--workers", str(workers), "--threads", "60", "--no-control-socket", "--log-level", "warning"]
        uvicorn = ["uvicorn", "--fd", fd, "--app-dir", str(APP), "--log-level", "warning"]
        uvicorn += ["--http", kind.removeprefix("asgi-"), "--timeout-graceful-shutdown", "5"]
        command = [sys.executable, "-m", *(gunicorn if kind == "wsgi" else uvicorn), "site_app:application"]
        environment = {
            **os.environ,
            "AFM_POLICY": str(site.policy),
            "TEST_MARKS": str(site.folder / "marks"),
            "TEST_KIND": kind[:4],
        }
        self.log = site.folder / f"server-{self.port}.log"
        self._log = self.log.open("wb")
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=[int(fd)], stdout=self._log, stderr=self._log, cwd=APP
        )
        self.base = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
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


KINDS = ["wsgi", "asgi-h11", "asgi-httptools"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, POLICY)


def all_pay(base: str, keys: list[str]) -> list[httpx.Response]:
    body = json.dumps({"amount": "10.00"}).encode()
    ask: Callable[[str], httpx.Response] = lambda key: httpx.post(
        f"{base}/pay", headers=headers(key), content=body, timeout=PATIENCE
    )
    with ThreadPoolExecutor(len(keys)) as pool:
        return list(pool.map(ask, keys))


def test_fifty_actors_share_a_cap_of_ten_payments(site: Site, kind: str) -> None:
    keys = [site.key(f"actor-{number}") for number in range(50)]
    with Served(site, kind) as server:
        answers = all_pay(server.base, keys)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 40
    assert (site.folder / "marks").read_text().count("pay") == 10
    assert site.counted() == site.owed() == 10_000
    report = site.verified()
    assert (report.status, report.open) == ("whole", 0)


def test_two_processes_admit_exactly_the_cap_together(site: Site) -> None:
    keys = [site.key(f"actor-{number}") for number in range(40)]
    with Served(site, "wsgi", workers=2) as server:
        answers = all_pay(server.base, keys)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 30
    assert site.counted() == site.owed() == 10_000


def test_what_can_be_read_in_two_ways_never_runs(site: Site, kind: str) -> None:
    key = site.key("payer")
    body = b'{"amount": "1.00"}'
    rest = b"Host: api.example\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 18\r\n"
    rest += f"Authorization: Bearer {key}\r\n".encode()
    requests = [
        b"POST /%70ay%2F HTTP/1.1\r\n" + rest + b"\r\n" + body,
        b"POST //pay HTTP/1.1\r\n" + rest + b"\r\n" + body,
        b"POST /pay%0A HTTP/1.1\r\n" + rest + b"\r\n" + body,
        b"POST /pay/../pay HTTP/1.1\r\n" + rest + b"\r\n" + body,
        b"POST /pay%FF HTTP/1.1\r\n" + rest + b"\r\n" + body,
        b"POST /pay HTTP/1.1\r\n" + rest + b"Authorization: Bearer other\r\n\r\n" + body,
        b"POST /pay HTTP/1.1\r\n" + rest + b"X-HTTP-Method-Override: DELETE\r\n\r\n" + body,
    ]
    with Served(site, kind) as server:
        for request in requests:
            assert b" 400 " in server.raw(request).partition(b"\r\n")[0], request
        good = server.raw(b"POST /pay HTTP/1.1\r\n" + rest + b"\r\n" + body)
        assert b" 200 " in good.partition(b"\r\n")[0]
        # A body that ends before it is whole: neither judged nor charged.
        cut = server.raw(b"POST /pay HTTP/1.1\r\n" + rest + b"\r\n" + body[:12], half_close=True)
        assert b" 200 " not in cut.partition(b"\r\n")[0]
    assert (site.folder / "marks").read_text().count("pay") == 1
    assert site.counted() == site.owed() == 100


def test_a_stream_comes_piece_by_piece_and_a_client_may_leave_it(site: Site, kind: str) -> None:
    if kind.startswith("asgi") and django.VERSION < (5, 0):
        pytest.skip("Django 4.2 does not look whether the client is still there")
    key = site.key("reader")
    with Served(site, kind) as server:
        with (
            httpx.Client(timeout=PATIENCE) as client,
            client.stream("GET", f"{server.base}/stream", headers=headers(key)) as answer,
        ):
            assert answer.status_code == 200
            assert "agent-receipt" in answer.headers
            # The first piece is here while the view still waits for the next request.
            assert next(answer.iter_text()) == "first\n"
        assert httpx.get(f"{server.base}/ran", timeout=PATIENCE).status_code == 200
        whole = httpx.get(f"{server.base}/stream", headers=headers(key), timeout=PATIENCE)
        assert len(whole.text) == len("first\n") + 1_000_000 * len("second\n")
    ends = sorted(str(body["end"]) for body in site.bodies("outcome"))
    assert ends == ["client_gone", "ok"]
    assert site.counted() == 200


def test_a_broken_policy_fails_the_start_and_says_why(site: Site, kind: str) -> None:
    site.policy.write_text("version: 1\nservice: s\nrulez: []\n", encoding="utf-8")
    with Served(site, kind) as server:
        assert server.process.wait(PATIENCE) != 0
    assert "fence.yaml:3:1: unknown key 'rulez'; did you mean 'rules'?" in server.log.read_text()
    assert not (site.folder / "marks").exists()
