"""One authorization server, and one site in every framework, for all tests that do not break them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("joserfc")
pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
pytest.importorskip("flask")
pytest.importorskip("rest_framework")

from tests.identity.server import AuthorizationServer
from tests.identity.sites import STACKS, Site
from tests.integrations.django.project import configure

configure()


@pytest.fixture(scope="module")
def server() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=STACKS)
def site(
    request: pytest.FixtureRequest, server: AuthorizationServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    site = Site(request.param, tmp_path_factory.mktemp("site"), server)
    yield site
    site.close()


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site and a server of the test's own, to be broken; its framework is the test's parameter, or FastAPI."""
    server = AuthorizationServer()
    site = Site(getattr(request, "param", "fastapi"), tmp_path, server)
    yield site
    site.close()
    server.stop()
