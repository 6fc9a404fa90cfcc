"""What the tests of Django share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.django.fenced import Tried


@pytest.fixture(params=["wsgi", "asgi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tried(tmp_path: Path) -> Iterator[Tried]:
    one = Tried(tmp_path)
    yield one
    one.fence.close()
