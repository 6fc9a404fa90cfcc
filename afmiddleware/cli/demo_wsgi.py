"""The server of the Flask and Django shops in `afmiddleware demo`: werkzeug's threaded one, on a listening socket.

`python -m afmiddleware.cli.demo_wsgi FOLDER MODULE:NAME FD` serves the application that the folder's module names, or
makes when it is called as `MODULE:NAME()`.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any


def serve(folder: str, place: str, descriptor: int) -> None:
    """Serve until SIGTERM. Raises `ImportError` where there is no application."""
    from werkzeug.serving import make_server

    sys.path.insert(0, folder)
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name.removesuffix("()"))
    application = found() if name.endswith("()") else found
    server = make_server("127.0.0.1", 0, application, threaded=True, fd=descriptor)
    # An orderly end, so that what waits for the ledger is written.
    signal.signal(signal.SIGTERM, _end)
    server.serve_forever()


def _end(*_: Any) -> None:
    sys.exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
