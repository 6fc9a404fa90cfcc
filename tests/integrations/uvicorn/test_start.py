"""A fence that cannot be made: the server does not start, and where it has no lifespan nothing runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integrations.uvicorn.served import PATIENCE

HERE = Path(__file__).parent
POLICY = "version: 1\nservice: s\nledger: {ledger}\nroutes:\n  - {{route: GET /health, public: true}}\n{more}"


def missing(folder: Path) -> str:
    return "there is no policy file"


def misspelt(folder: Path) -> str:
    (folder / "fence.yaml").write_text(POLICY.format(ledger="memory", more="rulez: []\n"))
    return "fence.yaml:6:1: unknown key 'rulez'"


def no_place_for_the_ledger(folder: Path) -> str:
    (folder / "file").write_text("")
    (folder / "fence.yaml").write_text(POLICY.format(ledger="sqlite:///file/fence.db", more=""))
    return "file/fence.db"


def no_such_endpoint(folder: Path) -> str:
    (folder / "fence.yaml").write_text(POLICY.format(ledger="memory", more="  - {route: GET /no, public: true}\n"))
    return "GET /no"


FAULTS = [missing, misspelt, no_place_for_the_ledger, no_such_endpoint]
UVICORN = ["uvicorn", "--fd", "{fd}", "--app-dir", str(HERE), "--log-level", "warning"]
HYPERCORN = ["hypercorn", "--bind", "fd://{fd}", "--log-level", "warning"]


@contextmanager
def served(folder: Path, words: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The application under a server at a loopback port that was free, and what the server says."""
    log = folder / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as told:
        listening.set_inheritable(True)
        port, fd = listening.getsockname()[1], listening.fileno()
        command = [sys.executable, "-m", *(word.format(fd=fd) for word in words), "late_app:app"]
        environment = {
            **os.environ,
            "TEST_POLICY": str(folder / "fence.yaml"),
            "TEST_MARKS": str(folder / "marks"),
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        }
        environment.pop("AFM_POLICY", None)
        process = subprocess.Popen(command, env=environment, pass_fds=[fd], stdout=told, stderr=told, cwd=HERE)
        try:
            yield process, f"127.0.0.1:{port}", log
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("server", ["uvicorn", "uvicorn on", "hypercorn"])
def test_the_server_does_not_start_and_says_why(tmp_path: Path, server: str, fault: object) -> None:
    if server == "hypercorn":
        pytest.importorskip("hypercorn")
    said = fault(tmp_path)  # type: ignore[operator]
    words = {"uvicorn": UVICORN, "uvicorn on": [*UVICORN, "--lifespan", "on"], "hypercorn": HYPERCORN}[server]
    with served(tmp_path, words) as (process, _, log):
        # Hypercorn's own worker fails; its parent ends with 0 all the same.
        assert process.wait(PATIENCE) != 0 or server == "hypercorn"
    assert said in log.read_text()


@pytest.mark.parametrize("words", [["--workers", "2"], ["--workers=2"]])
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_a_ledger_in_memory_is_not_shared_out_among_workers(tmp_path: Path, server: str, words: list[str]) -> None:
    if server == "hypercorn":
        pytest.importorskip("hypercorn")
    (tmp_path / "fence.yaml").write_text(POLICY.format(ledger="memory", more=""))
    command = {"uvicorn": UVICORN, "hypercorn": HYPERCORN}[server]
    with served(tmp_path, [*command, *words]) as (process, _, log):
        said = "memory counts in one process only, and the server was started with --workers"
        while said not in log.read_text() and process.poll() is None:
            pass
        assert said in log.read_text()
    assert not (tmp_path / "marks").exists()


GUNICORN = ["gunicorn", "--bind", "fd://{fd}", "--no-control-socket", "-k", "uvicorn.workers.UvicornWorker"]


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ([*GUNICORN, "-w", "2"], {}, "the server was started with -w 2"),
        ([*GUNICORN, "-w", "2", "--preload"], {}, "the server was started with -w 2"),
        (GUNICORN, {"GUNICORN_CMD_ARGS": "--workers=2"}, "the server was started with --workers=2"),
        (GUNICORN, {"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY asks for 2"),
        ([*GUNICORN, "-c", "{folder}/two.py"], {}, "the server runs 2 processes like this one"),
        ([*GUNICORN, "-c", "{folder}/two.py", "--preload"], {}, "the server runs 2 processes like this one"),
        (["late_run", "{fd}"], {}, "the server runs 2 processes like this one"),
        (
            ["hypercorn", "--bind", "fd://{fd}", "-c", "{folder}/two.toml"],
            {},
            "the server runs 2 processes like this one",
        ),
        ([*UVICORN], {"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY asks for 2"),
    ],
)
def test_however_a_server_is_told_of_its_workers_none_has_a_ledger_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], environment: dict[str, str], said: str
) -> None:
    if "like this one" in said and not Path("/proc/self/task").exists():
        pytest.skip("what runs beside it is only known on Linux")
    if words[0] in ("gunicorn", "hypercorn"):
        pytest.importorskip(words[0])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "two.py").write_text("workers = 2\n")
    (tmp_path / "two.toml").write_text("workers = 2\n")
    (tmp_path / "fence.yaml").write_text(POLICY.format(ledger="memory", more=""))
    with served(tmp_path, [word.replace("{folder}", str(tmp_path)) for word in words]) as (process, _, log):
        while said not in log.read_text() and process.poll() is None:
            pass
        assert f"memory counts in one process only, and {said}" in log.read_text()
    assert not (tmp_path / "marks").exists()


@pytest.mark.parametrize("words", [UVICORN, [*GUNICORN, "-w", "1"], [*GUNICORN, "-w", "1", "--preload"]])
def test_one_worker_has_a_ledger_in_memory(tmp_path: Path, words: list[str]) -> None:
    pytest.importorskip(words[0])
    (tmp_path / "fence.yaml").write_text(POLICY.format(ledger="memory", more=""))
    with served(tmp_path, words) as (_, base, _log):
        assert httpx.get(f"http://{base}/health", timeout=PATIENCE).status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_lifespan_nothing_runs(tmp_path: Path, fault: object) -> None:
    said = fault(tmp_path)  # type: ignore[operator]
    with served(tmp_path, [*UVICORN, "--lifespan", "off"]) as (_, base, log):
        for _ in range(2):
            answer = httpx.get(f"http://{base}/health", timeout=PATIENCE)
            code = "ledger.unavailable" if fault is no_place_for_the_ledger else "policy.unavailable"
            assert (answer.status_code, answer.json()["code"]) == (503, code)
            assert answer.headers["retry-after"] == "60"
            assert said not in answer.text
        shaken = httpx.get(
            f"http://{base}/open",
            headers={
                "connection": "upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
            timeout=PATIENCE,
        )
        assert shaken.status_code == 403
    assert said in log.read_text()
    assert not (tmp_path / "marks").exists()


def test_what_is_right_starts(tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY.format(ledger="memory", more=""))
    with served(tmp_path, UVICORN) as (_, base, _log):
        assert httpx.get(f"http://{base}/health", timeout=PATIENCE).text == "ran"
