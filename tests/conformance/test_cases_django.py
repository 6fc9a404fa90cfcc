"""The same cases through Django, under WSGI and under ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views import View

from afmiddleware.fence import Fence
from tests.conformance import wsgi
from tests.conformance.client import send
from tests.conformance.harness import Case, Scene, answer_to, cases, paired
from tests.conformance.test_cases_core import UNMAPPED, settle
from tests.integrations.django.project import project


def answer(request: HttpRequest, **_values: object) -> HttpResponseBase:
    len(request.body)
    status, media, body = answer_to({name.lower(): value for name, value in request.headers.items()})
    return HttpResponse(body, status=status, content_type=media)


def streams(request: HttpRequest, **_values: object) -> HttpResponseBase:
    status, media, body = answer_to({name.lower(): value for name, value in request.headers.items()})
    return StreamingHttpResponse(iter([body[:7], body[7:]]), status=status, content_type=media)


async def aanswer(request: HttpRequest, **_values: object) -> HttpResponseBase:
    status, media, body = answer_to({name.lower(): value for name, value in request.headers.items()})

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:7]
        yield body[7:]

    return StreamingHttpResponse(pieces(), status=status, content_type=media)


def patterns(fence: Fence, handler: Any) -> list[Any]:
    """A class view for each path, with a handler for each of its methods."""
    paths: dict[str, list[str]] = {}
    for key in (*fence.plan.bindings, *UNMAPPED):
        method, _, template = key.partition(" ")
        paths.setdefault(template, []).append(method)
    return [
        path(template.lstrip("/").replace("{", "<").replace("}", ">"), view_of(template, methods, handler))
        for template, methods in paths.items()
    ]


def view_of(template: str, methods: list[str], handler: Any) -> Any:
    def run(self: View, request: HttpRequest, **values: object) -> Any:
        return handler(request, **values)

    async def arun(self: View, request: HttpRequest, **values: object) -> Any:
        return await handler(request, **values)

    chosen = arun if handler is aanswer else run
    names = [method.lower() for method in methods]
    # Without it, Django would answer OPTIONS by itself.
    members = dict.fromkeys(names, chosen) | {"http_method_names": [*names, "head"]}
    made: Any = type(f"At{template}", (View,), members)
    return made.as_view()


@pytest.mark.parametrize(("handler", "ledger"), paired(whole=answer, streamed=streams))
@pytest.mark.parametrize("case", wsgi.cases(), ids=lambda case: case.id)
def test_wsgi(case: Case, ledger: str, handler: Any, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    with project(patterns(scene.fence, handler), scene.fence):
        app = WSGIHandler()
        for request in case.before:
            wsgi.send(app, scene, request)
        seen = wsgi.send(app, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()


@pytest.mark.anyio
@pytest.mark.parametrize(("handler", "ledger"), paired(sync=answer, async_streamed=aanswer))
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
async def test_asgi(case: Case, ledger: str, handler: Any, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    with project(patterns(scene.fence, handler), scene.fence):
        transport = httpx.ASGITransport(cast("Any", ASGIHandler()), client=("203.0.113.9", 4000))
        async with httpx.AsyncClient(transport=transport, follow_redirects=False) as client:
            for request in case.before:
                await send(client, scene, request)
            seen = await send(client, scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()
