"""The same cases through Flask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask, Response, request

from afmiddleware.fence import Fence
from afmiddleware_flask import AgentFence
from tests.conformance.harness import Case, Scene, answer_to
from tests.conformance.test_cases_core import UNMAPPED, settle
from tests.conformance.wsgi import cases, send


def handler(**_values: str) -> Response:
    request.get_data()
    status, media, body = answer_to({name.lower(): value for name, value in request.headers})
    return Response(body, status, content_type=media)


def flask(fence: Fence) -> Flask:
    app = Flask(__name__, static_folder=None)
    for key in (*fence.plan.bindings, *UNMAPPED):
        method, _, path = key.partition(" ")
        rule = re.sub(r"\{(\w+)\}", r"<\1>", path)
        app.add_url_rule(rule, key, handler, methods=[method], provide_automatic_options=False)
    return app


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_case(case: Case, ledger: str, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    app = flask(scene.fence)
    AgentFence(app, fence=scene.fence)
    for request_before in case.before:
        send(app, scene, request_before)
    seen = send(app, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()
