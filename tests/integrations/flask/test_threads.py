"""Fifty threads against one budget: what is admitted is what the cap allows, no more and no less."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from afmiddleware import current_action
from tests.integrations.flask.fenced import Tried

THREADS = 50


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
def test_fifty_threads_against_a_cap_of_a_hundred(tmp_path: Path, ledger: str) -> None:
    tried = Tried(tmp_path, ledger=ledger)
    app = tried.app()
    seen: list[str] = []
    start = Barrier(THREADS)

    def pay() -> str:
        seen.append(str(current_action().receipt))
        return "done"

    app.view_functions["pay"] = pay
    tried.client(app)

    def one(_number: int) -> int:
        client = app.test_client()
        start.wait()
        return client.post("/pay", json={"amount": "10.00"}).status_code

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = list(pool.map(one, range(THREADS)))
    assert sorted(statuses) == [200] * 10 + [403] * 40
    assert len(set(seen)) == 10
    tried.fence.close()
