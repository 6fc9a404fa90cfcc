"""Requests per second under uvicorn, one server process, keep-alive connections from a second process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.overhead import BODY

if TYPE_CHECKING:
    from collections.abc import Sequence

BARE, MEMORY, SQLITE = "fastapi", "fastapi+fence memory", "fastapi+fence sqlite"
WARM = 1.0
"""For how long a server is asked before it counts, in seconds: what is imported late is there then."""


def throughput(seconds: float, connections: int) -> None:
    """Print requests per second, latencies and ratios to the bare app."""
    found = in_turns((BARE, MEMORY, SQLITE), seconds, connections)
    table = Table("variant", "requests/s", "of bare", "p99 ms")
    for name, (rate, tail) in found.items():
        table.add_row(name, f"{rate:.0f}", f"{rate / found[BARE][0]:.2f}", f"{tail * 1000:.1f}")
    Console().print(table)


def in_turns(names: Sequence[str], seconds: float, connections: int) -> dict[str, tuple[float, float]]:
    """Requests per second and the p99 of a request in seconds, each the median of three rounds in turns."""
    rounds = [{name: _measure(name, seconds / 3, connections) for name in names} for _ in range(3)]
    return {
        name: (median([one[name][0] for one in rounds]), median([one[name][1] for one in rounds])) for name in names
    }


def _measure(name: str, seconds: float, connections: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.server", name, folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent, env=os.environ)
        try:
            assert server.stdout is not None
            port, key = server.stdout.readline().decode().split()
            return asyncio.run(_load(int(port), key, seconds, connections))
        finally:
            server.terminate()
            server.wait()


async def _load(port: int, key: str, seconds: float, connections: int) -> tuple[float, float]:
    request = (
        f"POST /pay HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    latencies: list[float] = []
    start = time.perf_counter() + WARM
    end = start + seconds

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise AssertionError(head)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if sent >= start:
                latencies.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    latencies.sort()
    return len(latencies) / seconds, latencies[int(len(latencies) * 0.99)]
