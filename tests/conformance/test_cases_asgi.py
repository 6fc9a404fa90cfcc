"""The same cases through the generic ASGI middleware, which asks the policy's own table of routes.

It cannot know what the application has, so where a framework answers 404 or 405 by itself, this refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from afmiddleware.pep.asgi import FenceMiddleware
from tests.conformance.client import send
from tests.conformance.harness import Case, Scene, answer_to, cases
from tests.conformance.test_cases_core import settle

pytestmark = pytest.mark.anyio


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body to its end, and answers as it is told; of what no route lists it knows nothing."""
    while (await receive()).get("more_body"):
        pass
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    answer, media, body = answer_to(headers)
    status = 404 if scope["path"] == "/nothing" else answer
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media.encode())]})
    for piece in (body[:3], body[3:]):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


def expected(case: Case) -> Case:
    """What this middleware does instead of leaving an answer to the application's router."""
    if case.expect["status"] not in (404, 405) or "answer" in case.request or case.request.get("own"):
        return case
    if "mode: observe" in case.policy:
        return msgspec.structs.replace(case, expect={"status": case.expect["status"]})
    return msgspec.structs.replace(case, expect={"status": 403, "code": "route.unmapped", "receipt": "none"})


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
@pytest.mark.parametrize("case", [expected(case) for case in cases()], ids=lambda case: case.id)
async def test_case(case: Case, ledger: str, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    app = FenceMiddleware(application, fence=scene.fence)
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 4000))
    async with httpx.AsyncClient(transport=transport, follow_redirects=False) as client:
        for request in case.before:
            await send(client, scene, request)
        seen = await send(client, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()
