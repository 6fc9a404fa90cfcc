"""Fifty payments of ten dollars against a cap of a hundred: exactly ten, over processes, servers and hosts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integrations.gunicorn.served import POLICY, Gunicorn
from tests.integrations.gunicorn.test_gunicorn import all_pay
from tests.integrations.uvicorn.served import POLICY as ASGI_POLICY
from tests.integrations.uvicorn.served import Server, Site
from tests.ledger.servers import schema

SQLITE = "sqlite:///fence.db"
LEDGERS = ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        yield SQLITE if request.param == "sqlite" else stack.enter_context(schema())


def exactly_ten(site: Site, servers: list[str], *sites: Site) -> None:
    keys = [site.key(f"actor-{number}") for number in range(50)]
    answers = all_pay(servers, keys, together=False)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [403] * 40
    assert {answer.json()["code"] for answer in answers if answer.status_code == 403} == {"spend.exceeded"}
    marks = [one.folder / "marks" for one in (site, *sites)]
    assert sum(mark.read_text().count("pay") for mark in marks if mark.exists()) == 10


@pytest.mark.parametrize("url", LEDGERS, indirect=True)
def test_four_gunicorn_workers(tmp_path: Path, url: str) -> None:
    site = Site(tmp_path, POLICY.replace(SQLITE, url))
    with Gunicorn(site, workers=4, threads=16) as server:
        exactly_ten(site, [server.base])
    assert site.counted() == site.owed() == 10_000
    assert site.verified().status == "whole"


@pytest.mark.parametrize("url", LEDGERS, indirect=True)
def test_four_uvicorn_workers(tmp_path: Path, url: str) -> None:
    site = Site(tmp_path, ASGI_POLICY.replace(SQLITE, url))
    site.key("first")
    with Server(site, workers=4) as server:
        exactly_ten(site, [server.base])
    assert site.counted() == site.owed() == 10_000
    assert site.verified().status == "whole"


@pytest.mark.service("postgresql")
def test_two_hosts_of_two_frameworks(tmp_path: Path) -> None:
    with schema() as url:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        one = Site(folders[0], POLICY.replace(SQLITE, url).replace("receipts:", "metadata: {}\nreceipts:"))
        one.key("first")
        for place in folders[0].glob("fence.*"):
            # A host has its own disk: what they share are the database and the keys.
            shutil.copy(place, folders[1])
        two = Site(folders[1], ASGI_POLICY.replace(SQLITE, url))
        with Gunicorn(one, workers=2, threads=16) as wsgi, Server(two, workers=2) as asgi:
            exactly_ten(one, [wsgi.base, asgi.base], two)
        assert one.counted() == one.owed() == 10_000
        assert one.verified().status in ("whole", "unanchored")
