"""The cap holds where threads truly run at once: a Python without a GIL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import free_threaded

pytestmark = pytest.mark.service("free-threaded")
CODE = """
import sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
assert not sys._is_gil_enabled()
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, opened
from tests.ledger.racer import limit
for kind in ("memory", "sqlite"):
    with tempfile.TemporaryDirectory() as folder, opened(kind, Path(folder), FrozenClock()) as ledger:
        with ThreadPoolExecutor(32) as pool:
            held = list(pool.map(lambda n: ledger.commit(entry(f"d{n}", limit("spend"), amount=1)), range(200)))
        print(sum(one.verdict.authorized for one in held))
"""


def test_two_hundred_in_threads_without_a_gil() -> None:
    command = [free_threaded(), "-X", "gil=0", "-c", CODE]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["100", "100"]
