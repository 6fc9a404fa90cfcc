"""Whether anything can be admitted now, as a health check asks: what a commit would say, and nothing changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Closed
from afmiddleware.model.entry import InForce, Ping
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiMiddleware
from tests.conformance.wsgi import call
from tests.ledger.redis_process import RedisProcess
from tests.unit.pep.test_endpoints import PREFIX, Service
from tests.unit.pep.test_wsgi import asked

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model.entry import Item

POLICY = """
version: 1
service: s
ledger: sqlite:///fence.db
identity: {api_keys: {store: ledger}}
routes: [{route: GET /look, capability: shop.look}]
rules: {allow: [shop.*]}
limits: [{name: often, rate: 9/minute}]
"""


class Ticking:
    """A steady clock that moves on by two seconds whenever it is asked, or by what is said."""

    def __init__(self, step: float = 2.0) -> None:
        self.at = 0.0
        self.step = step

    def __call__(self) -> float:
        self.at += self.step
        return self.at


class Counting:
    """The ledger of a fence that counts what it is asked."""

    def __init__(self, fence: Fence) -> None:
        self.items: list[Item] = []
        self._ledger = fence.ledger
        fence.ledger = cast("Ledger", self)

    def commit(self, item: Item) -> Any:
        self.items.append(item)
        return self._ledger.commit(item)

    def close(self) -> None:
        self._ledger.close()


@pytest.fixture
def fence(tmp_path: Path) -> Iterator[Fence]:
    with closing(made(tmp_path)) as fence:
        yield fence


def made(folder: Path, more: str = "") -> Fence:
    (folder / "fence.yaml").write_text(POLICY + more)
    fence = Fence.from_file(folder / "fence.yaml", env={})
    # No test waits a second.
    fence.readiness.steady = Ticking()
    return fence


def test_a_ping_is_committed_and_leaves_nothing(ledger: Ledger) -> None:
    before = ledger.head()
    assert ledger.commit(Ping()) == Closed(booked=False, state="ready")
    assert ledger.head() == before
    assert list(ledger.receipts(Filter())) == []
    assert list(ledger.holds()) == []


def test_a_ledger_that_is_away_is_not_ready_and_says_why(fence: Fence, tmp_path: Path, caplog: Any) -> None:
    assert fence.ready()
    names = [one.name for one in tmp_path.iterdir() if one.name.startswith("fence.db")]
    (tmp_path / "aside").mkdir()
    for name in names:
        (tmp_path / name).rename(tmp_path / "aside" / name)
    with caplog.at_level(logging.WARNING, "afmiddleware"):
        assert not fence.ready()
    assert "this process is not ready" in caplog.text
    assert not asyncio.run(fence.aready())
    for name in names:
        (tmp_path / "aside" / name).rename(tmp_path / name)
    assert fence.ready()
    assert asyncio.run(fence.aready())


def test_a_disk_that_takes_no_more_is_not_ready(fence: Fence) -> None:
    """What reads well and cannot be written admits nothing."""
    resource = pytest.importorskip("resource")
    assert fence.ready()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limit[1]))
    try:
        assert not fence.ready()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert fence.ready()


def test_an_anchor_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    """Admissions wait for their mark outside the ledger, so they would be refused."""
    (tmp_path / "outside").mkdir()
    with closing(made(tmp_path, "receipts: {anchor: {file: outside/anchor.json, every: 1s}}\n")) as fence:
        anchors = fence.ledger.anchors
        assert anchors is not None
        assert fence.ready()
        anchors.required, anchors._patience = True, -1.0
        assert not fence.ready()


@pytest.mark.service("redis")
def test_rates_that_cannot_be_reached_are_not_ready(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path)
    try:
        with closing(made(tmp_path, f"rates: {server.url()}\n")) as fence:
            assert fence.ready()
            server.kill()
            assert not fence.ready()
            server.start()
            while not fence.ready():
                pass
    finally:
        server.kill()


def test_many_that_ask_do_not_keep_the_ledger_busy(fence: Fence) -> None:
    counting, clock = Counting(fence), Ticking(0.0)
    fence.readiness.steady = clock
    assert all(fence.ready() for _ in range(50))
    assert counting.items == [Ping(fence.plan.file)]
    clock.at += 1.0
    assert all(fence.ready() for _ in range(50))
    assert len(counting.items) == 2


def test_a_superseded_policy_is_read_again_and_else_not_ready(fence: Fence, tmp_path: Path) -> None:
    assert fence.ready()
    (tmp_path / "other.yaml").write_text(POLICY + "metadata: {new: yes}\n")
    with closing(Fence.from_file(tmp_path / "other.yaml", env={})) as other:
        fence.ledger.commit(InForce(other.plan.digest, "enforce", "activate", file=other.plan.file))
        assert other.ready()
    assert not fence.ready()
    assert not asyncio.run(fence.aready())
    (tmp_path / "fence.yaml").write_text((tmp_path / "other.yaml").read_text())
    fence.readiness.steady = Ticking()
    while not fence.ready():
        pass
    assert fence.config.metadata == {"new": "yes"}


@pytest.fixture(params=["memory", "sqlite:///fence.db"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    one = Service(tmp_path, request.param)
    yield one
    one.fence.close()


def test_it_is_told_without_a_credential_and_however_often(service: Service) -> None:
    for _ in range(70):
        status, headers, body = service.get(f"{PREFIX}ready")
        assert (status, json.loads(body), headers["cache-control"]) == (200, {"ready": True}, "private, no-store")
    assert service.get(f"{PREFIX}ready", method="HEAD")[::2] == (200, b"")
    assert service.get(f"{PREFIX}ready", method="POST")[0] == 405
    service.fence.readiness.unfit = True
    status, headers, body = service.get(f"{PREFIX}ready")
    assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/problem+json")
    assert b"ledger" not in body


def test_a_wsgi_application_tells_it_too(fence: Fence) -> None:
    fenced = WsgiMiddleware(lambda environ, start: [b""], fence=fence)
    assert call(fenced, asked("GET", f"{PREFIX}ready"))[0] == 200
    fence.ledger.close()
    assert call(fenced, asked("GET", f"{PREFIX}ready"))[0] == 503


def test_what_does_not_fit_its_application_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY.replace("sqlite:///fence.db", "memory"))
    with closing(Fence.from_file(tmp_path / "fence.yaml", env={})) as fence:
        fenced = WsgiMiddleware(lambda environ, start: [b""], fence=fence)
        assert call(fenced, asked("GET", "/look") | {"wsgi.multiprocess": True})[0] == 503
        assert call(fenced, asked("GET", f"{PREFIX}ready"))[0] == 503
