"""The servers under attack: every stack is one process with one policy, at a loopback port that was free."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.corpus.site import Site

ROOT = Path(__file__).parents[2]
PATIENCE: Final = 30.0
_LIFE: Final = "600"
"""After so many seconds a server ends by itself, whatever became of the tests."""

_APP: Final = {
    "fa": "tests.corpus.apps.fastapi_app",
    "fl": "tests.corpus.apps.flask_app",
    "dj": "tests.corpus.apps.django_app",
}
_UVICORN: Final = ["uvicorn", "--factory", "{app}:create", "--fd", "{fd}", "--log-level", "warning"]
_GUNICORN: Final = ["gunicorn", "{app}:create()", "--bind", "fd://{fd}", "--log-level", "warning", "--worker-class"]
COMMANDS: Final[dict[str, list[str]]] = {
    "fa-uv-h11": [*_UVICORN, "--http", "h11"],
    "fa-uv-ht": [*_UVICORN, "--http", "httptools"],
    "fa-hyper": ["hypercorn", "{app}:create()", "--bind", "fd://{fd}", "--log-level", "warning"],
    "fl-guni": [*_GUNICORN, "gthread"],
    "fl-guni-sync": [*_GUNICORN, "sync"],
    "fl-wz": ["tests.corpus.apps.werkzeug_server", "{fd}"],
    "dj-guni": [*_GUNICORN, "gthread"],
    "dj-uv": [*_UVICORN, "--http", "h11"],
}
"""Every stack, by the names that the research report has for them, and how `python -m` starts it."""

STACKS: Final = tuple(name for name in COMMANDS if not name.startswith("dj"))


class Stack:
    """A running server; `code` is the folder that the product is imported from."""

    def __init__(self, name: str, folder: Path, code: Path = ROOT) -> None:
        self.name = name
        self.family = name.partition("-")[0]
        self.site = Site(folder, self.family)
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.set_inheritable(True)
        self.port: int = listener.getsockname()[1]
        fd = listener.fileno()
        command = [part.format(app=_APP[self.family], fd=fd) for part in COMMANDS[name]]
        paths = (code, code / "integrations", ROOT)
        environment = {
            **os.environ,
            "AFM_POLICY": str(self.site.policy),
            "CORPUS_MARKS": str(self.site.marks),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.log = folder / "server.log"
        # From now on the server alone holds the port: if it ends, connections are refused at once.
        with listener, self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["timeout", "--kill-after=5", _LIFE, sys.executable, "-m", *command],
                env=environment,
                cwd=folder,
                pass_fds=[fd],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End the server, and whatever it started."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()

    def end(self) -> str:
        """Stop, and return what the server wrote."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        return self.log.read_text(encoding="utf-8", errors="replace")
