"""The Django project of the server tests. Each act of a view appends a line to the file that TEST_MARKS names."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

PATIENCE = 30.0
UNDER_ASGI = os.environ["TEST_KIND"] == "asgi"
MARKS = Path(os.environ["TEST_MARKS"])

settings.configure(
    SECRET_KEY="not a secret: it signs nothing here",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["afmiddleware_django"],
    AFMIDDLEWARE={"policy": os.environ["AFM_POLICY"]},
    MIDDLEWARE=["afmiddleware_django.middleware.FenceMiddleware", "django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF="site_app",
    USE_TZ=True,
)
django.setup()

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402 (needs settings)
from django.urls import path  # noqa: E402
from django.views import View  # noqa: E402
from django.views.decorators.http import require_GET  # noqa: E402

together = threading.Barrier(2)
go_on = threading.Event()


def mark(text: str) -> None:
    with MARKS.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ok": True})


@require_GET
def ran(_request: HttpRequest) -> JsonResponse:
    go_on.set()
    return JsonResponse({"ok": True})


class Pay(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        payment = json.loads(request.body)
        mark(f"pay {payment['amount']}")
        return JsonResponse({"paid": payment["amount"]})


class AsyncPay(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        payment = json.loads(request.body)
        await asyncio.sleep(0)
        mark(f"pay {payment['amount']}")
        return JsonResponse({"paid": payment["amount"]})


@require_GET
def stream(_request: HttpRequest) -> StreamingHttpResponse:
    def rows() -> Iterator[str]:
        yield "first\n"
        go_on.wait(PATIENCE)
        for _ in range(100):
            yield "second\n" * 10_000

    async def arows() -> AsyncIterator[str]:
        yield "first\n"
        await asyncio.to_thread(go_on.wait, PATIENCE)
        for _ in range(100):
            yield "second\n" * 10_000

    mark("stream")
    found: Any = arows() if UNDER_ASGI else rows()
    return StreamingHttpResponse(found, content_type="text/plain")


urlpatterns = [
    path("health", health),
    path("ran", ran),
    path("pay", AsyncPay.as_view() if UNDER_ASGI else Pay.as_view()),
    path("stream", stream),
]
application = get_asgi_application() if UNDER_ASGI else get_wsgi_application()
