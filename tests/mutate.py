"""Change the code in one place at a time, and see whether the tests notice.

    python -m tests.mutate afmiddleware/policy --sample 300 --seed 1 --tests "tests/unit/policy tests/conformance/test_rules.py"

It runs the named tests once with coverage, and then, on copies of the tree, against each change those that run the
changed line: the quickest first, then all that touch the file. A change that no test notices has to stand in
`tests/unnoticed.yaml` with the reason why none can; a twentieth of all may.
"""

# ruff: noqa: T201 (it prints what it found)

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.mutants import Mutant, mutants

ROOT = Path(__file__).parents[1]
UNNOTICED = ROOT / "tests" / "unnoticed.yaml"
PATIENCE = 180.0
FIRST = 40
"""How many of the tests that run a changed line are tried before all that touch its file."""

_COLLECTION_FAILED = 2
_SHARED = "::*"
"""The end of a context that is a whole file of tests."""
_HEAVY = (
    "coverage", "hypothesis.strategies", "pytest", "pydantic", "yaml", "click.testing", "rich.console", "jwt", "httpx", "re2",
    "starlette.testclient", "sqlite_utils.db", "cryptography.hazmat.primitives.asymmetric.ed25519", "xml.etree.ElementTree",
)  # fmt: skip


class Reach(msgspec.Struct, frozen=True):
    """Which tests run which line of a file, and how long each test takes in seconds."""

    by_line: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]

    def of(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """The tests to try first and those to try then, each with the quickest first."""
        lines = self.by_line.get(mutant.path, {})
        touching = self._tests({name for names in lines.values() for name in names})
        close = self._tests({name for line in range(mutant.line, mutant.end + 1) for name in lines.get(line, ())})
        first = self._quickest(close or touching)[:FIRST]
        # What runs when a module is imported runs in no test, and any may look at what it made.
        then = touching if close else {*self.seconds}
        return first, [test for test in self._quickest(then) if test not in first]

    def _tests(self, names: set[str]) -> set[str]:
        """The tests of some contexts; what a fixture ran for a whole file, every test in it may look at."""
        files = {name.removesuffix(_SHARED) for name in names if name.endswith(_SHARED)}
        return {test for test in self.seconds if test in names or test.partition("::")[0] in files}

    def _quickest(self, tests: set[str]) -> list[str]:
        return sorted(tests, key=lambda test: (self.seconds.get(test, 0.0), test))


class _Choice:
    """A pytest plugin that runs the tests it is given, in that order."""

    def __init__(self, tests: list[str]) -> None:
        self.place = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self.place), key=lambda one: self.place[one.nodeid])


class _Watch:
    """A pytest plugin that says to coverage which test runs."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = defaultdict(float)
        self.test = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid
        self.coverage.switch_context(nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        shared = fixturedef.scope != "function"
        if shared:
            self.coverage.switch_context(self.test.partition("::")[0] + _SHARED)
        made = yield
        if shared:
            self.coverage.switch_context(self.test)
        return made

    def pytest_runtest_logfinish(self) -> None:
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration


def main() -> None:
    """Run the changes that were drawn, and exit 1 when more than a twentieth survive or one that is not listed does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("where", nargs="+")
    parser.add_argument("--sample", type=int, default=0, help="how many to draw; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="of the changes drawn, those of lines that contain FILE:LINE")
    parser.add_argument("--again", type=Path, help="what an earlier run printed: only the changes that survived it")
    parser.add_argument("--tests", required=True, help="what pytest runs, separated by spaces")
    asked = parser.parse_args()
    found = [one for path in _files(asked.where) for one in mutants(str(path), (ROOT / path).read_text("utf-8"))]
    listed = _listed(asked.where, found)
    drawn = random.Random(asked.seed).sample(found, min(asked.sample, len(found))) if asked.sample else found
    drawn = [one for one in drawn if asked.only in f"{one.path}:{one.line}:"]
    if asked.again is not None:
        before = re.findall(r"SURVIVED ([^:]+):\d+: in ([\w.]+): (.*)$", asked.again.read_text("utf-8"), re.MULTILINE)
        drawn = [one for one in drawn if one.key in {*before}]
    for name in _HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / str(number) for number in range(asked.workers)]
        shutil.copytree(ROOT, copies[0], ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache"))
        reach = _reach(copies[0], asked.where, asked.tests.split(), Path(folder) / "reach.json")
        for copy in copies[1:]:
            # With what was compiled on the way, so that nothing but the changed file has to be compiled again.
            shutil.copytree(copies[0], copy)
        survived = _run(drawn, reach, copies)
    unlisted = [one for one in survived if one.key not in listed]
    for one in survived:
        print(f"SURVIVED {one}" + (f" (known: {listed[one.key]})" if one.key in listed else ""))
    print(f"{len(survived)} of {len(drawn)} changes survived, {len(unlisted)} of which are not in {UNNOTICED.name}")
    sys.exit(1 if unlisted or len(survived) * 20 > len(drawn) else 0)


def _files(where: list[str]) -> list[Path]:
    files: list[Path] = []
    for place in where:
        files += (
            [Path(place)]
            if place.endswith(".py")
            else sorted(one.relative_to(ROOT) for one in (ROOT / place).rglob("*.py"))
        )
    return files


def _listed(where: list[str], found: list[Mutant]) -> dict[tuple[str, str, str], str]:
    """The changes that are known to be noticed by no test, with the reason. One that cannot be made any more is an error."""
    listed = {
        (path, entry["in"], entry["change"]): entry["why"] for path, entries in unnoticed().items() for entry in entries
    }
    gone = set(listed) - {one.key for one in found}
    wrong = [key for key in gone if any(key[0].startswith(place) for place in where)]
    if wrong:
        sys.exit(f"{UNNOTICED.name} lists changes that the code has no place for: {wrong}")
    return listed


def unnoticed() -> dict[str, list[dict[str, str]]]:
    """What `unnoticed.yaml` holds: for each file its changes, as maps of `in`, `change` and `why`."""
    return yaml.safe_load(UNNOTICED.read_text("utf-8")) or {}


def _reach(copy: Path, where: list[str], tests: list[str], out: Path) -> Reach:
    """Run the tests on the code as it is, and see what each runs."""
    began = time.monotonic()

    def measure() -> int:
        import coverage

        measured = coverage.Coverage(
            source=[str(copy / one) for one in where if not one.endswith(".py")] or [str(copy)],
            data_file=None,
            config_file=False,
        )
        measured.start()
        watch = _Watch(measured)
        code = pytest.main([*_OPTIONS, *tests], plugins=[watch])
        measured.stop()
        data = measured.get_data()
        by_line = {
            str(Path(file).relative_to(copy)): {
                line: set(names) for line, names in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        out.write_bytes(msgspec.json.encode(Reach(by_line, watch.seconds)))
        return int(code)

    pid = _fork(copy, measure, quiet=False)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("the tests do not hold on the code as it is")
    reach = msgspec.json.decode(out.read_bytes(), type=Reach)
    print(f"{len(reach.seconds)} tests in {time.monotonic() - began:.0f} s", flush=True)
    return reach


_OPTIONS = (
    "-x",
    "-q",
    "--no-header",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
    "-p",
    "no:xdist",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


def _fork(copy: Path, work: Any, *, quiet: bool = True) -> int:
    """Do some work in a process of its own whose tree is the copy; returns its id. It knows nothing of the product yet."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(copy)
        places = [str(copy / one) for one in (".", "integrations", "sample_apps")]
        sys.path[:] = [*places, *(one for one in sys.path if not (one or ".").startswith((str(ROOT), ".")))]
        os.environ.update(PYTHONPATH=os.pathsep.join(places), PYTHONDONTWRITEBYTECODE="1")
        # Several forks of one process look like a server's workers, for which ledgers in memory are refused.
        os.environ.setdefault("AFM_MEMORY_WORKERS", "1")
        sys.dont_write_bytecode = quiet
        for name in [one for one in sys.modules if one.split(".")[0] in ("tests", "afmiddleware")]:
            del sys.modules[name]
        if quiet:
            void = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(void, stream)
        code = work()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _run(drawn: list[Mutant], reach: Reach, copies: list[Path]) -> list[Mutant]:
    """Try the changes, one a copy at a time; returns those that survived."""
    waiting = list(reversed(drawn))
    running: dict[int, tuple[Mutant, Path, list[str], float]] = {}
    free = list(copies)
    survived: list[Mutant] = []
    done = 0

    def begin(mutant: Mutant, copy: Path, tests: list[str], then: list[str]) -> None:
        files = sorted({test.partition("::")[0] for test in tests})

        def work() -> int:
            return int(pytest.main([*_OPTIONS, *files], plugins=[_Choice(tests)]))

        running[_fork(copy, work)] = (mutant, copy, then, time.monotonic() + PATIENCE)

    while waiting or running:
        while waiting and free:
            mutant, copy = waiting.pop(), free.pop()
            _put(copy, mutant, mutant.text)
            begin(mutant, copy, *reach.of(mutant))
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            for one, (_, _, _, until) in running.items():
                if time.monotonic() > until:
                    os.killpg(one, signal.SIGKILL)
            time.sleep(0.01)
            continue
        mutant, copy, then, _ = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if code > _COLLECTION_FAILED:
            sys.exit(f"pytest could not run (exit {code}) against {mutant}")
        noticed = code != 0
        if not noticed and then:
            begin(mutant, copy, then, [])
            continue
        _put(copy, mutant, mutant.source)
        free.append(copy)
        done += 1
        if not noticed:
            survived.append(mutant)
        print(f"{done}/{len(drawn)} {'noticed ' if noticed else 'SURVIVED'} {mutant}", flush=True)
    return survived


def _put(copy: Path, mutant: Mutant, text: str) -> None:
    """Write a file so that what was compiled of it is believed for the source as it is, and for no change of it."""
    place = copy / mutant.path
    place.write_text(text, "utf-8")
    at = (ROOT / mutant.path).stat().st_mtime_ns
    os.utime(place, ns=(at, at if text == mutant.source else time.time_ns()))


if __name__ == "__main__":
    main()
