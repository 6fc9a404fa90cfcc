"""The same measurement for Flask and for a plain WSGI application: CPU time per request, variants interleaved."""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from rich.console import Console
from rich.table import Table

from afmiddleware.pep.wsgi import FenceMiddleware
from afmiddleware_flask import AgentFence
from benchmarks.apps import fence_for
from benchmarks.overhead import BODY

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from afmiddleware.fence import Fence


def wsgi_overhead(rounds: int, requests: int, *, profile: bool) -> None:
    """Print microseconds and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        memory, memory_key = fence_for("memory", Path(folder))
        sqlite, sqlite_key = fence_for("sqlite:///bench.db", Path(folder))
        plain, plain_key = fence_for("memory", Path(folder))
        variants: list[tuple[str, WSGIApplication, dict[str, Any], int]] = [
            ("Flask, JSON view", flask_app(), environ("POST", "/pay", ""), 0),
            ("  + fence, memory ledger", flask_app(memory), environ("POST", "/pay", memory_key), 0),
            ("  + fence, SQLite ledger", flask_app(sqlite), environ("POST", "/pay", sqlite_key), 0),
            ("Flask, public route", flask_app(), environ("GET", "/health", ""), 3),
            ("  + fence", flask_app(memory), environ("GET", "/health", ""), 3),
            ("WSGI, JSON handler", pay, environ("POST", "/pay", ""), 5),
            ("  + fence, memory ledger", FenceMiddleware(pay, fence=plain), environ("POST", "/pay", plain_key), 5),
        ]
        if profile:
            _profile(flask_app(memory), environ("POST", "/pay", memory_key), requests * 5)
        times = _measure(variants, rounds, requests)
        for fence in (memory, sqlite, plain):
            fence.close()
    table = Table("variant", "us/request", "ratio", "added us")
    for (name, _, _, base), series in zip(variants, times, strict=True):
        ratio = median(a / b for a, b in zip(series, times[base], strict=True))
        added = median(a - b for a, b in zip(series, times[base], strict=True))
        table.add_row(name, f"{median(series):.1f}", f"{ratio:.2f}", f"{added:+.1f}")
    Console().print(table)


def flask_app(fence: Fence | None = None) -> Flask:
    """The Flask application, bare or behind the fence."""
    app = Flask(__name__, static_folder=None)

    @app.post("/pay")
    def pay() -> dict[str, Any]:
        return {"paid": request.get_json()["amount"]}

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ok": True}

    if fence is not None:
        AgentFence(app, fence=fence)
    return app


def pay(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that reads the JSON."""
    payment = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    body = json.dumps({"paid": payment["amount"]}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def environ(method: str, path: str, key: str) -> dict[str, Any]:
    """An environment as gunicorn makes it, with the headers of a plain client."""
    made: dict[str, Any] = {
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn/25",
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
        "RAW_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": "agent/1.0",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(BODY)),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
    }
    if key:
        made["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return made


def _measure(variants: list[Any], rounds: int, requests: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in variants]
    for _, app, head, _ in variants:
        _drive(app, head, 50)
    for number in range(rounds):
        order = range(len(variants)) if number % 2 == 0 else reversed(range(len(variants)))
        for place in order:
            _, app, head, _ = variants[place]
            before = time.process_time()
            _drive(app, head, requests)
            times[place].append((time.process_time() - before) / requests * 1e6)
    return times


def _drive(app: Any, head: dict[str, Any], count: int) -> None:
    def start_response(status: str, headers: Any, error: Any = None) -> None:
        del headers, error
        if status[:3] != "200":
            raise AssertionError(status)

    for _ in range(count):
        answer = app({**head, "wsgi.input": io.BytesIO(BODY)}, start_response)
        for _piece in answer:
            pass
        if hasattr(answer, "close"):
            answer.close()


def _profile(app: Any, head: dict[str, Any], count: int) -> None:
    profiler = cProfile.Profile()
    _drive(app, head, 100)
    profiler.enable()
    _drive(app, head, count)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
