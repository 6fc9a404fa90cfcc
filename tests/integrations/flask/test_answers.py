"""Settling from the answer of a WSGI application: the last piece waits for the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_flask import AgentFence
from tests.conformance.wsgi import environ_of

POLICY = """
version: 1
service: test
ledger: {ledger}
routes:
  - {{route: POST /pay, capability: payments.pay, amount: {{from: body.amount}}, settle: {{from: response.body.total}}}}
  - {{route: POST /plain, capability: payments.pay, amount: {{from: body.amount}}}}
  - {{route: POST /rpc, protocol: jsonrpc, capability: "payments.{{method}}", methods: {{pay: {{amount: {{from: params.amount}}}}}}}}
rules: {{allow: [payments.*]}}
limits: [{{name: cap, spend: 100 USD, window: total, per: global}}]
"""


def outcomes(fence: Fence) -> list[tuple[str, str]]:
    bodies: list[Any] = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter(kind="outcome"))]
    return [(body["settlement"], body["captured"]) for body in bodies]


def test_wsgi_waits_too(tmp_path: Path) -> None:
    fence = Fence(load(POLICY.format(ledger="sqlite:///fence.db")), base=tmp_path)
    app = Flask("waits", static_folder=None)
    AgentFence(app, fence=fence)

    @app.post("/pay")
    def pay() -> Response:
        return Response(iter(['{"to', 'tal": ', '"12.50"}']), content_type="application/json")

    app.post("/plain")(lambda: "plain")
    app.post("/rpc", endpoint="rpc")(lambda: "rpc")
    content = b'{"amount": 40}'
    headers = [("host", "x"), ("content-type", "application/json"), ("content-length", str(len(content)))]
    answer: Any = app.wsgi_app(environ_of("POST", "/pay", headers, content), lambda *_: lambda _data: None)
    pieces = [(piece, outcomes(fence)) for piece in answer]
    answer.close()
    assert b"".join(piece for piece, _ in pieces) == b'{"total": "12.50"}'
    assert [recorded for _, recorded in pieces] == [[], [], [("capture", "1250")]]
    fence.close()
