from __future__ import annotations

import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("afmiddleware", "afmiddleware_fastapi", "afmiddleware_flask", "afmiddleware_django")


@pytest.fixture(scope="session")
def shipped(wheel: Path) -> frozenset[str]:
    with zipfile.ZipFile(wheel) as file:
        return frozenset(file.namelist())


def test_wheel_brings_its_own_packages_and_no_other_name(shipped):
    names = {name.split("/")[0] for name in shipped}
    assert {name for name in names if not name.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(shipped, package):
    assert f"{package}/__init__.py" in shipped
    assert f"{package}/py.typed" in shipped


def test_wheel_holds_every_source_file(shipped):
    sources = {
        path.relative_to(root).as_posix()
        for root, package in ((ROOT, PACKAGES[0]), *((ROOT / "integrations", name) for name in PACKAGES[1:]))
        for path in (root / package).rglob("*.py")
    }
    assert sources <= shipped


@pytest.mark.parametrize("name", ["fastapi_shop", "flask_shop"])
def test_wheel_holds_the_sample_apps_of_the_demo(shipped, name):
    shop = ROOT / "sample_apps" / name
    files = {path.relative_to(shop).as_posix() for path in shop.rglob("*") if path.suffix in {".py", ".yaml", ".md"}}
    assert "app.py" in files
    assert ("fence.yaml" in files) is (name == "fastapi_shop")
    assert {f"afmiddleware/_samples/{name}/{file}" for file in files} <= shipped


def test_wheel_holds_the_licence_and_nothing_compiled(shipped):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in shipped)
    assert not [name for name in shipped if "__pycache__" in name or name.endswith((".pyc", ".db"))]


@pytest.mark.parametrize("name", ["tox.ini", "tests/conftest.py", "CHANGELOG.md", "LICENSE", "README.md", ".ci/run"])
def test_sdist_can_be_tested(sdist, name):
    with tarfile.open(sdist) as file:
        assert name in {member.partition("/")[2] for member in file.getnames()}


def test_dev_extra_is_the_dev_group():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = table["dependency-groups"]
    flat = [
        requirement
        for item in groups["dev"]
        for requirement in (groups[item["include-group"]] if isinstance(item, dict) else [item])
    ]
    assert sorted(flat) == sorted(table["project"]["optional-dependencies"]["dev"])
