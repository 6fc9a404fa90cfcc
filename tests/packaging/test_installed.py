from __future__ import annotations

import json
import subprocess
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("afmiddleware", "afmiddleware_fastapi", "afmiddleware_flask", "afmiddleware_django")
# Not werkzeug.serving: the reader of multipart forms comes with the whole of werkzeug's front door.
FRAMEWORKS = ("fastapi", "flask", "django", "starlette.applications", "starlette.routing", "werkzeug.routing")

LOADED = f"""
import sys
import {{modules}}
print(*sorted(set({FRAMEWORKS!r}) & set(sys.modules)))
"""

# Importing every file of the core, the command line included, must need no framework either. The files of a ledger
# whose driver is an extra, and those of signatures, are only imported where the policy names them; the library may then
# be missed by name.
EVERYTHING = f"""
import importlib, pkgutil, sys
import afmiddleware
for module in pkgutil.walk_packages(afmiddleware.__path__, "afmiddleware."):
    if not module.name.startswith("afmiddleware._samples"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            signed = "afmiddleware.identity.signature"
            of = {{"psycopg": "postgres", "redis": "redis", "hiredis": "redis", "http_sf": signed, "http_message_signatures": signed}}.get(error.name)
            if of is None or of not in module.name:
                raise
print(*sorted(set({FRAMEWORKS[:3]!r}) & set(sys.modules)))
"""


def run(program: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def python(installed: Path) -> Path:
    return installed / "python"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_imports_from_where_it_is_installed(python, tmp_path, package):
    where = run(python, "-W", "error", "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path)
    assert where.strip().startswith(str(python.parents[1])), where


def test_importing_the_core_loads_no_framework(python, tmp_path):
    assert run(python, "-c", LOADED.format(modules="afmiddleware"), cwd=tmp_path).split() == []


def test_no_file_of_the_core_loads_a_framework(python, tmp_path):
    assert run(python, "-c", EVERYTHING, cwd=tmp_path).split() == []


@pytest.mark.parametrize("command", ["afmiddleware", "afm"])
def test_the_command_says_what_it_can_do(installed, tmp_path, command):
    said = run(installed / command, "--help", cwd=tmp_path)
    assert said.startswith("Usage:")
    assert "demo" in said


def test_version_is_that_of_the_distribution(installed, tmp_path):
    [info] = (installed.parent / "lib").glob("python*/site-packages/afmiddleware-*.dist-info")
    assert PathDistribution(info).version in run(installed / "afmiddleware", "--version", cwd=tmp_path)


def test_the_demo_runs_once_installed(installed, tmp_path):
    json.loads(run(installed / "afmiddleware", "demo", "--json", cwd=tmp_path))
