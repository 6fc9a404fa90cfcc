"""The server of the Flask shop in `afmiddleware demo`: werkzeug's threaded one, on a socket that listens already.

`python -m afmiddleware.cli.demo_wsgi FOLDER FD` serves what `create_from_env` in the folder's `app.py` returns.
"""

from __future__ import annotations

import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def serve(folder: Path, descriptor: int) -> None:
    """Serve until SIGTERM. Raises `ImportError` where there is no application."""
    from werkzeug.serving import make_server

    spec = spec_from_file_location("shop", folder / "app.py")
    if spec is None or spec.loader is None:
        msg = f"{folder} holds no app.py"
        raise ImportError(msg)
    module = module_from_spec(spec)
    # The application looks its own annotations up in here.
    sys.modules["shop"] = module
    spec.loader.exec_module(module)
    server = make_server("127.0.0.1", 0, module.create_from_env(), threaded=True, fd=descriptor)
    # An orderly end, so that what waits for the ledger is written.
    signal.signal(signal.SIGTERM, _end)
    server.serve_forever()


def _end(*_: Any) -> None:
    sys.exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
