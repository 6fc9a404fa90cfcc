"""CPU time per request, in one process, the variants interleaved so that noise falls on all of them alike."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from starlette.middleware import Middleware

from afmiddleware.model import Entry, Verdict
from afmiddleware.model.receipt import Draft
from benchmarks.apps import PassThrough, fastapi_app, fence_for, fenced_fastapi, fenced_starlette, starlette_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from afmiddleware import Fence

BODY = b'{"amount": 12.5, "to": "acme", "note": "a payment as an agent would send it", "items": [1, 2, 3]}'


def overhead(rounds: int, requests: int, *, profile: bool) -> None:
    """Print microseconds and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        memory, memory_key = fence_for("memory", Path(folder))
        sqlite, sqlite_key = fence_for("sqlite:///bench.db", Path(folder))
        variants: list[tuple[str, ASGIApp, dict[str, Any], int]] = [
            ("Starlette, JSON handler", starlette_app(), scope("POST", "/pay", ""), 0),
            ("  + pass-through middleware", starlette_app(Middleware(PassThrough)), scope("POST", "/pay", ""), 0),
            ("  + fence, memory ledger", fenced_starlette(memory), scope("POST", "/pay", memory_key), 0),
            ("  + fence, SQLite ledger", fenced_starlette(sqlite), scope("POST", "/pay", sqlite_key), 0),
            ("Starlette, public route", starlette_app(), scope("GET", "/health", ""), 4),
            ("  + fence", fenced_starlette(memory), scope("GET", "/health", ""), 4),
            ("FastAPI, JSON handler", fastapi_app(), scope("POST", "/pay", ""), 6),
            ("  + fence, memory ledger", fenced_fastapi(memory), scope("POST", "/pay", memory_key), 6),
            ("  + fence, SQLite ledger", fenced_fastapi(sqlite), scope("POST", "/pay", sqlite_key), 6),
        ]
        if profile:
            _profile(fenced_starlette(memory), scope("POST", "/pay", memory_key), requests * 5)
        times = asyncio.run(_measure(variants, rounds, requests, sqlite))
        memory.close()
        sqlite.close()
    table = Table("variant", "us/request", "ratio", "added us")
    for (name, _, _, base), series in zip(variants, times, strict=True):
        ratio = median(a / b for a, b in zip(series, times[base], strict=True))
        added = median(a - b for a, b in zip(series, times[base], strict=True))
        table.add_row(name, f"{median(series):.1f}", f"{ratio:.2f}", f"{added:+.1f}")
    Console().print(table)


def scope(method: str, path: str, key: str) -> dict[str, Any]:
    """An ASGI scope as uvicorn makes it, with the headers of a plain client."""
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"*/*"),
        (b"user-agent", b"agent/1.0"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
    ]
    if key:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def _measure(variants: list[Any], rounds: int, requests: int, behind: Fence) -> list[list[float]]:
    """CPU time of each variant; what `behind` still writes when its requests are answered is its own time too."""
    times: list[list[float]] = [[] for _ in variants]
    for _, app, head, _ in variants:
        await _drive(app, head, 50)
    _drain(behind)
    for number in range(rounds):
        order = range(len(variants)) if number % 2 == 0 else reversed(range(len(variants)))
        for place in order:
            _, app, head, _ = variants[place]
            before = time.process_time()
            await _drive(app, head, requests)
            _drain(behind)
            times[place].append((time.process_time() - before) / requests * 1e6)
    return times


def _drain(fence: Fence) -> None:
    """Wait until all that the fence was handed is written: this look comes last in its ledger's queue."""
    verdict = Verdict(authorized=True, code="policy.allowed")
    fence.commit(Entry(id="look", owner="nobody", verdict=verdict, record=lambda _: Draft("look", "", {}), dry=True))


async def _drive(app: ASGIApp, head: dict[str, Any], count: int) -> None:
    message = {"type": "http.request", "body": BODY, "more_body": False}

    async def receive() -> dict[str, Any]:
        return message

    async def send(sent: Any) -> None:
        if sent["type"] == "http.response.start" and sent["status"] != 200:
            raise AssertionError(sent)

    for _ in range(count):
        await app(dict(head), receive, send)


def _profile(app: ASGIApp, head: dict[str, Any], count: int) -> None:
    profiler = cProfile.Profile()

    async def run() -> None:
        await _drive(app, head, 100)
        profiler.enable()
        await _drive(app, head, count)
        profiler.disable()

    asyncio.run(run())
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
