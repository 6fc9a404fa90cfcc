"""The same cases through the generic WSGI middleware, which asks the policy's own table of routes.

It cannot know what the application has, so where a framework answers 404 or 405 by itself, this refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from afmiddleware.pep.wsgi import FenceMiddleware
from tests.conformance.harness import Case, Scene, answer_to
from tests.conformance.test_cases_core import settle
from tests.conformance.wsgi import cases, send


def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Reads the body to its end, and answers as it is told; of what no route lists it knows nothing."""
    environ["wsgi.input"].read()
    headers = {key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    answer, media, body = answer_to(headers)
    status = 404 if environ["PATH_INFO"] == "/nothing" else answer
    start_response(f"{status} As told", [("Content-Type", media)])
    yield from (body[:3], body[3:])


def expected(case: Case) -> Case:
    """What this middleware does instead of leaving an answer to the application's router."""
    if case.expect["status"] not in (404, 405) or "answer" in case.request or case.request.get("own"):
        return case
    if "mode: observe" in case.policy:
        return msgspec.structs.replace(case, expect={"status": case.expect["status"]})
    return msgspec.structs.replace(case, expect={"status": 403, "code": "route.unmapped", "receipt": "none"})


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
@pytest.mark.parametrize("case", [expected(case) for case in cases()], ids=lambda case: case.id)
def test_case(case: Case, ledger: str, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    app = FenceMiddleware(application, fence=scene.fence)
    for request in case.before:
        send(app, scene, request)
    seen = send(app, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()
