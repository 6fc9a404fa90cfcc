"""What every test shares: asyncio alone, no deadlines, and a word on what could not run here."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# A slow machine is no failure, so examples have no deadline.
settings.register_profile("afmiddleware", deadline=None, print_blob=True)
settings.load_profile("afmiddleware")

HERE = Path(__file__).parent

# A file or folder with one of these words in its name needs the module beside it. The core environment has none.
NEEDS = {
    "mcp": "mcp",
    "oauth": "joserfc",
    "fastapi": "fastapi",
    "flask": "flask",
    "gunicorn": "flask",
    "postgres": "psycopg",
    "django": "django",
    "corpus": "hypercorn",
    "demo": "fastapi",
    "uvicorn": "uvicorn",
    "packaging": "build",
}
ABSENT = frozenset(word for word, module in NEEDS.items() if find_spec(module) is None)

PORTS = {"postgresql": 5432, "redis": 6379}

LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: the servers that this runs under are asyncio's."""
    return "asyncio"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what a framework is missing for."""
    absent = ABSENT & set(re.split(r"[^a-z0-9]+", collection_path.name.lower()))
    if not absent or not collection_path.is_relative_to(HERE):
        return None
    modules = ", ".join(sorted(NEEDS[word] for word in absent))
    config.stash[LEFT_OUT].append(f"{collection_path.relative_to(HERE.parent)}: {modules} not installed")
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what a service is missing for; fail it where services were promised."""
    for mark in item.iter_markers("service"):
        if missing := lacking(mark.args[0]):
            # No server that runs anywhere makes a Python of another kind.
            if os.environ.get("AFM_REQUIRE_SERVICES") == "1" and mark.args[0] != "free-threaded":
                pytest.fail(f"{missing}, and AFM_REQUIRE_SERVICES=1", pytrace=False)
            item.config.stash[LEFT_OUT].append(f"{item.nodeid}: {missing}")
            pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash[LEFT_OUT]:
        terminalreporter.section(f"left out here: {len(left_out)}")
        for line in left_out:
            terminalreporter.line(line)


def lacking(service: str) -> str:
    """What is missing for a service, empty when nothing is."""
    if service == "initdb":
        programs = any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        return "" if programs else "no programs of a PostgreSQL server under /usr/lib/postgresql"
    if service == "free-threaded":
        return "" if free_threaded() else "no Python without a GIL that has what this package needs"
    port = PORTS[service]
    return "" if listens(port) else f"{service} does not listen on 127.0.0.1:{port}"


def free_threaded() -> str:
    """A Python without a GIL that can import this package, empty when there is none."""
    here = str(HERE.parent)
    for name in ("python3.14t", "python3.13t"):
        found = shutil.which(name)
        asked = [found, "-c", "import afmiddleware.fence"] if found else []
        if asked and not subprocess.run(asked, cwd=here, check=False, capture_output=True).returncode:
            return str(found)
    return ""


def listens(port: int) -> bool:
    """Tell whether something on this machine takes connections at `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
