"""The server process of the throughput measurement: prints its port and key, then serves until it is terminated."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn

from benchmarks.apps import fastapi_app, fence_for, fenced_fastapi


def main() -> None:
    """Serve the variant named by the first argument, with its ledger in the folder named by the second."""
    name, folder = sys.argv[1:3]
    key = "none"
    if name == "fastapi":
        app = fastapi_app()
    else:
        fence, key = fence_for("memory" if name.endswith("memory") else "sqlite:///bench.db", Path(folder))
        app = fenced_fastapi(fence)
    # With its protocol named: asyncio sends small answers at once (TCP_NODELAY) only where it is sure that it is TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    sys.stdout.write(f"{listener.getsockname()[1]} {key}\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
