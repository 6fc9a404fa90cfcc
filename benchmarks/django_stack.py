"""The same measurement for Django, under WSGI and ASGI: CPU time per request, variants interleaved."""

from __future__ import annotations

import asyncio
import cProfile
import io
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test.utils import override_settings
from django.urls import path
from django.views.decorators.http import require_GET, require_POST
from rich.console import Console
from rich.table import Table

from benchmarks.apps import fence_for
from benchmarks.overhead import BODY, scope
from benchmarks.wsgi import environ

if TYPE_CHECKING:
    from afmiddleware.fence import Fence

FENCE = "afmiddleware_django.middleware.FenceMiddleware"


def django_overhead(rounds: int, requests: int, *, profile: bool) -> None:
    """Print microseconds and ratios."""
    if not settings.configured:
        settings.configure(
            SECRET_KEY="opens nothing",
            ALLOWED_HOSTS=["*"],
            INSTALLED_APPS=["afmiddleware_django"],
            ROOT_URLCONF=__name__,
            MIDDLEWARE=[],
            AFMIDDLEWARE={},
            USE_TZ=True,
        )
        django.setup()
    with tempfile.TemporaryDirectory() as folder:
        memory, key = fence_for("memory", Path(folder))
        sqlite, sqlite_key = fence_for("sqlite:///bench.db", Path(folder))
        if profile:
            _profile(wsgi_app(memory), key, requests * 5)
        _show(
            [
                ("Django, WSGI, JSON view", wsgi_app(), "POST", "/pay", "", 0),
                ("  + fence, memory ledger", wsgi_app(memory), "POST", "/pay", key, 0),
                ("  + fence, SQLite ledger", wsgi_app(sqlite), "POST", "/pay", sqlite_key, 0),
                ("Django, WSGI, public route", wsgi_app(), "GET", "/health", "", 3),
                ("  + fence", wsgi_app(memory), "GET", "/health", "", 3),
            ],
            rounds,
            requests,
        )
        urls = sys.modules["benchmarks.django_async_urls"] = ModuleType("benchmarks.django_async_urls")
        vars(urls)["urlpatterns"] = [path("pay", apay), path("health", ahealth)]
        with override_settings(ROOT_URLCONF=urls.__name__):
            _show(
                [
                    ("Django, ASGI, JSON view", asgi_app(), "POST", "/pay", "", 0),
                    ("  + fence, memory ledger", asgi_app(memory), "POST", "/pay", key, 0),
                    ("Django, ASGI, public route", asgi_app(), "GET", "/health", "", 2),
                    ("  + fence", asgi_app(memory), "GET", "/health", "", 2),
                ],
                rounds,
                requests,
            )
        memory.close()
        sqlite.close()


def _show(variants: list[tuple[str, Any, str, str, str, int]], rounds: int, requests: int) -> None:
    times = asyncio.run(_measure(variants, rounds, requests))
    table = Table("variant", "us/request", "ratio", "added us")
    for (name, *_, base), series in zip(variants, times, strict=True):
        ratio = median(a / b for a, b in zip(series, times[base], strict=True))
        added = median(a - b for a, b in zip(series, times[base], strict=True))
        table.add_row(name, f"{median(series):.1f}", f"{ratio:.2f}", f"{added:+.1f}")
    Console().print(table)


@require_POST
def pay(request: HttpRequest) -> JsonResponse:
    """A view that reads the JSON."""
    return JsonResponse({"paid": json.loads(request.body)["amount"]})


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """A public endpoint."""
    return JsonResponse({"ok": True})


async def apay(request: HttpRequest) -> JsonResponse:
    """The same as `pay`, on the event loop."""
    return pay(request)


async def ahealth(request: HttpRequest) -> JsonResponse:
    """The same as `health`, on the event loop."""
    return health(request)


urlpatterns = [path("pay", pay), path("health", health)]


def wsgi_app(fence: Fence | None = None) -> WSGIHandler:
    """The project under WSGI, bare or behind the fence."""
    with override_settings(MIDDLEWARE=[FENCE] if fence else [], AFMIDDLEWARE={"fence": fence}):
        return WSGIHandler()


def asgi_app(fence: Fence | None = None) -> ASGIHandler:
    """The project under ASGI, bare or behind the fence."""
    with override_settings(MIDDLEWARE=[FENCE] if fence else [], AFMIDDLEWARE={"fence": fence}):
        return ASGIHandler()


async def _measure(variants: list[Any], rounds: int, requests: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds + 1):
        order = range(len(variants)) if number % 2 == 0 else reversed(range(len(variants)))
        for place in order:
            _, app, method, target, key, _ = variants[place]
            before = time.process_time()
            if isinstance(app, WSGIHandler):
                _drive(app, environ(method, target, key), requests)
            else:
                await _adrive(app, scope(method, target, key), requests)
            # The first round warms up.
            if number:
                times[place].append((time.process_time() - before) / requests * 1e6)
    return times


def _drive(app: Any, head: dict[str, Any], count: int) -> None:
    def start_response(status: str, headers: Any, error: Any = None) -> None:
        del headers, error
        if status[:3] != "200":
            raise AssertionError(status)

    for _ in range(count):
        answer = app({**head, "wsgi.input": io.BytesIO(BODY)}, start_response)
        for _piece in answer:
            pass
        answer.close()


async def _adrive(app: Any, head: dict[str, Any], count: int) -> None:
    never = asyncio.Event()

    async def send(sent: Any) -> None:
        if sent["type"] == "http.response.start" and sent["status"] != 200:
            raise AssertionError(sent)

    for _ in range(count):
        pending = [{"type": "http.request", "body": BODY, "more_body": False}]

        async def receive(pending: list[Any] = pending) -> Any:
            return pending.pop() if pending else await never.wait()

        await app(dict(head), receive, send)


def _profile(app: Any, key: str, count: int) -> None:
    head = environ("POST", "/pay", key)
    profiler = cProfile.Profile()
    _drive(app, head, 100)
    profiler.enable()
    _drive(app, head, count)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
