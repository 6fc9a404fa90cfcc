"""The same inside Flask."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from flask import Flask, request

from afmiddleware_flask import AgentFence
from tests.properties import targets
from tests.properties.attacks import Acted
from tests.properties.test_requests import KINDS, check


@cache
def flask() -> targets.Send:
    acted: list[Acted] = []
    app = Flask("random", static_folder=None)

    def view(name: str) -> Any:
        def run(**values: str) -> dict[str, str]:
            acted.append(targets.noted(request, name, values))
            return {}

        return run

    for rule, name, method in (
        ("/pay", "pay", "POST"),
        ("/orders/<id>", "order", "GET"),
        ("/files/<path:path>", "file", "GET"),
        ("/transfer", "transfer", "POST"),
        ("/form", "form", "POST"),
    ):
        app.add_url_rule(rule, name, view(name), methods=[method])
    AgentFence(app, fence=targets.fence())
    return targets.wsgi(app, acted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_event_equals_the_act(kind: str) -> None:
    check(flask(), kind)
