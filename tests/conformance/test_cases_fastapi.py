"""The same cases through FastAPI and through plain Starlette."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from afmiddleware.fence import Fence
from afmiddleware_fastapi import install
from tests.conformance.client import send
from tests.conformance.harness import Case, Scene, answer_to, cases, paired
from tests.conformance.test_cases_core import UNMAPPED, settle

pytestmark = pytest.mark.anyio


async def handler(request: Request) -> Response:
    await request.body()
    status, media, body = answer_to(request.headers)
    return Response(body, status, media_type=media)


def routes(fence: Fence) -> list[tuple[str, str]]:
    return [(method, path) for method, _, path in (key.partition(" ") for key in (*fence.plan.bindings, *UNMAPPED))]


def fastapi(fence: Fence) -> FastAPI:
    app = FastAPI()
    for method, path in routes(fence):
        app.add_api_route(path, handler, methods=[method])
    return app


def starlette(fence: Fence) -> Starlette:
    return Starlette(routes=[Route(path, handler, methods=[method]) for method, path in routes(fence)])


@pytest.mark.parametrize(("make", "ledger"), paired(starlette=starlette, fastapi=fastapi))
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
async def test_case(case: Case, ledger: str, make: Callable[[Fence], Any], tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    app = make(scene.fence)
    install(app, fence=scene.fence)
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 4000))
    async with httpx.AsyncClient(transport=transport, follow_redirects=False) as client:
        for request in case.before:
            await send(client, scene, request)
        seen = await send(client, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()
