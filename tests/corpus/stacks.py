"""The servers under attack: every stack is one process with one policy, at a loopback port that was free."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from tests.corpus.site import Site

ROOT = Path(__file__).parents[2]
PATIENCE: Final = 30.0
_LIFE: Final = "600"
"""After so many seconds a server ends by itself, whatever became of the tests."""

_APPS: Final = "tests.corpus.apps"
_APP: Final = {
    "fa": f"{_APPS}.fastapi_app:create",
    "fl": f"{_APPS}.flask_app:create",
    "dj": f"{_APPS}.django_app:create",
    "dj-layered": f"{_APPS}.django_app:create",
    "asgi": f"{_APPS}.fastapi_app:create_generic",
    "wsgi": f"{_APPS}.flask_app:create_generic",
}
_UVICORN: Final = ["uvicorn", "--factory", "{app}", "--fd", "{fd}", "--log-level", "warning", "--http"]
_GUNICORN: Final = [
    "gunicorn",
    "{app}()",
    "--bind",
    "fd://{fd}",
    "--log-level",
    "warning",
    "--keep-alive",
    "1",
    "--worker-class",
]


class Kind(msgspec.Struct, frozen=True):
    """How a stack is started (`python -m` and these words), and what it is called beside its name.

    `also` are its family of applications; `table`, if a generic fence stands in front that does not ask the router;
    `environ`, if the fence speaks WSGI; and the HTTP parser of its server.
    """

    command: tuple[str, ...]
    also: tuple[str, ...]


KINDS: Final[dict[str, Kind]] = {
    "fa-uv-h11": Kind((*_UVICORN, "h11"), ("fa", "h11")),
    "fa-uv-ht": Kind((*_UVICORN, "httptools"), ("fa", "ht")),
    "fa-hyper": Kind(("hypercorn", "{app}()", "--bind", "fd://{fd}", "--log-level", "warning"), ("fa", "hyper")),
    "fl-guni": Kind((*_GUNICORN, "gthread"), ("fl", "environ", "guni")),
    "fl-guni-sync": Kind((*_GUNICORN, "sync"), ("fl", "environ", "guni")),
    "fl-wz": Kind((f"{_APPS}.werkzeug_server", "{fd}"), ("fl", "environ", "wz")),
    "dj-guni": Kind((*_GUNICORN, "gthread"), ("dj", "environ", "guni")),
    "dj-uv": Kind((*_UVICORN, "h11"), ("dj", "h11")),
    "dj-layered-guni": Kind((*_GUNICORN, "gthread"), ("dj-layered", "environ", "guni")),
    "dj-layered-uv": Kind((*_UVICORN, "h11"), ("dj-layered", "h11")),
    "asgi-uv-h11": Kind((*_UVICORN, "h11"), ("asgi", "table", "h11")),
    "asgi-uv-ht": Kind((*_UVICORN, "httptools"), ("asgi", "table", "ht")),
    "wsgi-guni": Kind((*_GUNICORN, "gthread"), ("wsgi", "table", "environ", "guni")),
}
"""Every stack, by the names that the research report has for them; `dj-layered` has a layer inside its
fence, and the last three have the generic fences."""

STACKS: Final = tuple(KINDS)


class Stack:
    """A running server; `code` is the folder that the product is imported from."""

    def __init__(self, name: str, folder: Path, code: Path = ROOT) -> None:
        self.name = name
        self.family = KINDS[name].also[0]
        self.site = Site(folder, self.family)
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.set_inheritable(True)
        self.port: int = listener.getsockname()[1]
        fd = listener.fileno()
        app = _APP[self.family]
        if app.endswith("django_app:create"):
            app += "_wsgi" if "environ" in KINDS[name].also else "_asgi"
        command = [part.format(app=app, fd=fd) for part in KINDS[name].command]
        paths = (code, code / "integrations", ROOT)
        environment = {
            **os.environ,
            "AFM_POLICY": str(self.site.policy),
            "CORPUS_APP": "layered" if self.family == "dj-layered" else "",
            "CORPUS_MARKS": str(self.site.marks),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._left = False
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

    def leave(self) -> None:
        """Ask the server to end, once: asked twice, it would leave work undone."""
        if not self._left:
            self._left = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the server, and whatever it started."""
        self.leave()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
