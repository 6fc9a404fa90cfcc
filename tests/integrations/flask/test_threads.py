"""Fifty threads against one budget: what is admitted is what the cap allows; and what requests leave behind."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from afmiddleware import current_action
from afmiddleware_flask.seal import FlaskExchange
from tests.conformance.wsgi import call, environ_of
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


def test_a_request_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    tried = Tried(tmp_path)
    app = tried.app()
    tried.extension.init_app(app)
    body = b'{"amount": "1.00"}'
    paying = [("host", "x"), ("content-type", "application/json"), ("content-length", str(len(body)))]
    assert call(app, environ_of("GET", "/health", [("host", "x")], b""))[0] == 200
    gc.collect()
    gc.disable()
    try:
        assert call(app, environ_of("POST", "/pay", paying, body))[0] == 200
        assert call(app, environ_of("GET", "/health", [("host", "x")], b""))[0] == 200
        assert [one for one in gc.get_objects() if type(one) is FlaskExchange] == []
    finally:
        gc.enable()
    tried.fence.close()
