"""The demo is real: the same agent, another policy, and exactly what that policy changes differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afmiddleware.cli.demo_shop import sample_folder

SAMPLE = (sample_folder() / "fence.yaml").read_text(encoding="utf-8")
STEPS = 13
LIMMITS = f"{{policy}}:{SAMPLE.splitlines().index('limits:') + 1}:1: unknown key 'limmits'; did you mean 'limits'?"


def demo(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "afmiddleware", "demo", *map(str, arguments)]
    ran = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in ran.stdout + ran.stderr
    return ran


def without(name: str) -> str:
    """The sample policy without one limit."""
    lines = SAMPLE.splitlines(keepends=True)
    kept = [line for line in lines if f"{{name: {name}," not in line]
    assert len(kept) == len(lines) - 1
    return "".join(kept)


def differing(folder: Path, text: str) -> dict[str, str]:
    """What was seen in each step that is not as expected, under another policy."""
    policy = folder / "other.yaml"
    policy.write_text(text, encoding="utf-8")
    ran = demo("--json", "--policy", policy)
    told = json.loads(ran.stdout)
    assert len(told["steps"]) == STEPS
    found = {step["step"]: step["seen"] for step in told["steps"] if not step["ok"]}
    assert (ran.returncode, told["ok"], ran.stderr) == (1 if found else 0, not found, "")
    return found


@pytest.mark.parametrize("app", ["fastapi", "flask", "django"])
def test_every_step_is_as_expected_and_the_folder_can_be_kept(tmp_path, app):
    pytest.importorskip(app)
    kept = tmp_path / "kept"
    # What a user's own environment says of other policies does not reach the shop.
    ran = demo("--app", app, "--json", "--keep", kept, AFM_MODE="observe", AFM_LEDGER="memory")
    told = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert told["ok"] is True
    assert [step["step"] for step in told["steps"] if step["seen"] != step["expected"] or not step["ok"]] == []
    assert len(told["steps"]) == STEPS
    assert {"fence.yaml", "fence.db", "jwks.json", "server.log"} <= {one.name for one in kept.iterdir()}
    again = demo("--keep", kept)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == f"{kept} is not empty; name a new folder to keep the demo in\n"


@pytest.mark.parametrize(
    ("limit", "step", "seen"),
    [
        ("searches", "search in a loop", "200 at request 15, no Retry-After"),
        ("hourly", "book 5.00 USD again and again", "200 at 80.00 USD"),
    ],
)
def test_without_a_limit_exactly_its_step_differs(tmp_path, limit, step, seen):
    assert differing(tmp_path, without(limit)) == {step: seen}


@pytest.mark.parametrize("exists", [True, False], ids=["into an empty folder", "into a new folder"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace("limits:", "limmits:"),
            LIMMITS,
        ),
        (lambda text: text.replace("jwks.json", "other.json"), "other.json"),
        (lambda text: text.replace("version: 1", "version: ["), "{policy}:"),
    ],
    ids=["unknown key", "missing keys", "no YAML"],
)
def test_a_broken_policy_runs_nothing_and_leaves_nothing(tmp_path, change, said, exists):
    policy = tmp_path / "other.yaml"
    policy.write_text(change(SAMPLE), encoding="utf-8")
    kept = tmp_path / "kept"
    if exists:
        kept.mkdir()
    ran = demo("--policy", policy, "--keep", kept, *(["--json"] if exists else []))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said.format(policy=policy) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert kept.exists() is exists
    assert not exists or list(kept.iterdir()) == []


def test_a_policy_that_is_missing_is_said(tmp_path):
    ran = demo("--json", "--policy", tmp_path / "none.yaml")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"{tmp_path / 'none.yaml'}: there is no policy file")
