"""What docs/flask.md shows for tests of one's own does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_flask import AgentFence

PAGE = (Path(__file__).parents[3] / "docs" / "flask.md").read_text(encoding="utf-8")
POLICY = """
version: 1
service: bookings-api
identity: {api_keys: {store: ledger}}
routes:
  - {route: POST /v1/bookings, capability: flights.book, amount: {from: body.price}, recipient: {from: body.airline}}
rules: {allow: [{capability: flights.book, identity: token, max_amount: 500 USD}]}
"""


@pytest.mark.parametrize("closed", [True, False])
def test_an_action_ends_when_its_answer_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    (text,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "fence_for_tests" in one]
    (tmp_path / "fence.yaml").write_text(POLICY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app = Flask("booked", static_folder=None)
    app.post("/v1/bookings")(lambda: {"id": "bk_1"})
    told: dict[str, Any] = {"AgentFence": AgentFence, "app": app}
    exec(text if closed else text.replace(", buffered=True", ""), told)  # noqa: S102 (what the page shows)
    assert told["answer"].get_json() == {"id": "bk_1"}
    fence = told["fence"]
    kinds = [strict_parse(one.receipt.body)["kind"] for one in fence.ledger.receipts(Filter())]
    assert kinds.count("intent") == 1
    assert kinds.count("outcome") == (1 if closed else 0)
    told["answer"].close()
    fence.close()
    assert [one.name for one in tmp_path.iterdir()] == ["fence.yaml"]
