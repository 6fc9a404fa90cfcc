"""The Flask application of the server tests. Each act of a view appends a line to the file that TEST_MARKS names."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from afmiddleware_flask import AgentFence

PATIENCE = 30.0


def create() -> Flask:
    """The fenced application."""
    marks = Path(os.environ["TEST_MARKS"])
    together = threading.Barrier(2)
    go_on = threading.Event()
    app = Flask(__name__, static_folder=None)

    def mark(text: str) -> None:
        with marks.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/ran")
    def ran() -> dict[str, bool]:
        go_on.set()
        return {"ok": True}

    @app.post("/pay")
    def pay() -> dict[str, Any]:
        payment = request.get_json()
        mark(f"pay {payment['amount']}")
        if payment.get("together"):
            # Stay until a second request is inside too, so that several are in flight for certain.
            together.wait(PATIENCE)
        if payment.get("fail"):
            msg = "as asked"
            raise RuntimeError(msg)
        return {"paid": payment["amount"]}

    @app.get("/stream")
    def stream() -> Response:
        def rows() -> Iterator[str]:
            yield "first\n"
            go_on.wait(PATIENCE)
            yield "second\n" * 100_000

        mark("stream")
        return Response(rows(), mimetype="text/plain")

    AgentFence(app, policy=os.environ["AFM_POLICY"])
    return app
