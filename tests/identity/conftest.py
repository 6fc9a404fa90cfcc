"""One authorization server, and one site in every framework, for all tests that do not break them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.identity.server import AuthorizationServer
    from tests.identity.sites import Site


@pytest.fixture(scope="module")
def server() -> Iterator[AuthorizationServer]:
    # Where a framework is missing nothing here is asked for.
    from tests.identity.server import AuthorizationServer

    server = AuthorizationServer()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["fastapi", "flask", "django"])
def site(
    request: pytest.FixtureRequest, server: AuthorizationServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    from tests.identity.sites import Site

    site = Site(request.param, tmp_path_factory.mktemp("site"), server)
    yield site
    site.close()


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site and a server of the test's own, to be broken; its framework is the test's parameter, or FastAPI."""
    from tests.identity.server import AuthorizationServer
    from tests.identity.sites import Site

    server = AuthorizationServer()
    site = Site(getattr(request, "param", "fastapi"), tmp_path, server)
    yield site
    site.close()
    server.close()
