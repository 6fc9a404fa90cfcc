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
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from afmiddleware.fence import Fence
from afmiddleware_fastapi import install
from tests.conformance.harness import Case, Scene, Seen, cases
from tests.conformance.test_cases_core import UNMAPPED, seen_of, settle

pytestmark = pytest.mark.anyio


async def handler(request: Request) -> Response:
    await request.body()
    return JSONResponse({}, int(request.headers.get("x-answer", "200")))


def routes(fence: Fence) -> list[tuple[str, str]]:
    return [(method, path) for method, _, path in (key.partition(" ") for key in (*fence.plan.bindings, *UNMAPPED))]


def fastapi(fence: Fence) -> FastAPI:
    app = FastAPI()
    for method, path in routes(fence):
        app.add_api_route(path, handler, methods=[method])
    return app


def starlette(fence: Fence) -> Starlette:
    return Starlette(routes=[Route(path, handler, methods=[method]) for method, path in routes(fence)])


async def send(client: httpx.AsyncClient, scene: Scene, request: dict[str, Any]) -> Seen:
    method, path, query, headers, body = scene.parts(request)
    url = httpx.URL("http://api.example.com").copy_with(raw_path=f"{path}?{query}".encode() if query else path.encode())
    answer = await client.send(httpx.Request(method, url, headers=headers, content=body))
    told = answer.json() if answer.headers.get("content-type") == "application/problem+json" else {}
    if told:
        assert answer.headers["cache-control"] == "no-store"
        assert told["status"] == answer.status_code
        assert str(scene.fence.config.source) not in answer.text
    seen = seen_of(answer.status_code, answer.headers.raw, b"")
    for name in ("code", "rule", "limit"):
        setattr(seen, name, told.get(name, ""))
    seen.told = told
    return seen


@pytest.mark.parametrize("make", [fastapi, starlette], ids=["fastapi", "starlette"])
@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
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
