"""Many requests at once: a cap of 100 USD admits exactly ten of fifty at 10 USD each."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from afmiddleware.current import current_action
from tests.integrations.django.fenced import Tried

PAID = b'{"amount": "10.00"}'
HEADERS = [("host", "api.example.com"), ("content-type", "application/json"), ("content-length", str(len(PAID)))]


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
def test_threads_under_wsgi(ledger: str, tmp_path: Path) -> None:
    tried = Tried(tmp_path, ledger=ledger)
    together = threading.Barrier(50)
    with tried.door("wsgi") as door, ThreadPoolExecutor(50) as threads:

        def pay(_number: int) -> int:
            together.wait()
            return door.send("POST", "/pay", PAID, HEADERS[1:2]).status

        statuses = sorted(threads.map(pay, range(50)))
    assert statuses == [200] * 10 + [403] * 40
    assert (len(tried.ran), tried.spent()) == (10, 10_000)
    tried.fence.close()


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
@pytest.mark.parametrize("view", ["sync", "async"])
def test_tasks_under_asgi(ledger: str, view: str, tmp_path: Path) -> None:
    tried = Tried(tmp_path, ledger=ledger)
    seen: list[Any] = []

    async def pay(_request: HttpRequest) -> HttpResponse:
        before = current_action()
        await asyncio.sleep(0)
        # Each task has its own action, whatever the others do in between.
        assert current_action() is before
        seen.append(before)
        return HttpResponse("")

    async def all_at_once() -> list[int]:
        sent = [door.asend("POST", "/pay", PAID, HEADERS) for _ in range(50)]
        return sorted([answer.status for answer in await asyncio.gather(*sent)])

    patterns = [path("pay", pay), *tried.patterns()[1:]] if view == "async" else tried.patterns()
    with tried.door("asgi", patterns) as door:
        statuses = asyncio.run(all_at_once())
    assert statuses == [200] * 10 + [403] * 40
    assert len(tried.ran) + len({id(one) for one in seen}) == 10
    assert tried.spent() == 10_000
    tried.fence.close()
