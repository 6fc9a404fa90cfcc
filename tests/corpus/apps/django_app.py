"""The target as a Django project: function and class views, an included URLconf, and Django REST framework."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from types import ModuleType
from typing import Any

import django
import msgspec
import orjson
import pydantic_core
import ujson
from django import forms
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views import View
from django.views.decorators.http import require_GET, require_POST, require_safe

from tests.corpus.apps import acts
from tests.corpus.apps.acts import paid_calls

FENCE = "afmiddleware_django.middleware.FenceMiddleware"
SEAL = "afmiddleware_django.middleware.SealMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
LAYER = "tests.corpus.apps.django_layer.Layer"
READERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "orjson": orjson.loads,
    "msgspec": msgspec.json.decode,
    "pydantic": pydantic_core.from_json,
    "ujson": ujson.loads,
}


def act(
    name: str,
    request: Any,
    amount: object = None,
    *,
    body: bool = False,
    to: object = None,
    call: int = 0,
    params: dict[str, Any] | None = None,
) -> JsonResponse:
    asked: HttpRequest = getattr(request, "_request", request)
    match = asked.resolver_match
    acts.act(
        name,
        case=asked.headers.get("x-case", ""),
        method=asked.method or "",
        path=asked.path,
        query=asked.META.get("QUERY_STRING", "").encode("latin-1"),
        params=params or (dict(match.kwargs) if match is not None else {}),
        body=asked.body if body else None,
        amount=amount,
        to=to,
        call=call,
    )
    return JsonResponse({"done": True})


def pays(name: str, loads: Callable[[bytes], Any], answer: Callable[[], Any] | None = None) -> Any:
    def pay(request: HttpRequest) -> Any:
        payment = loads(request.body)
        done = act(name, request, payment["amount"], body=True, to=payment["to"] if name == "gift" else None)
        return done if answer is None else answer()

    return require_POST(pay)


def takes(name: str, field: forms.Field) -> Any:
    made = type("Paid", (forms.Form,), {"amount": field})

    def take(request: HttpRequest) -> Any:
        form = made(request.POST)
        if not form.is_valid():
            return JsonResponse({}, status=422)
        return act(name, request, form.cleaned_data["amount"])

    return require_POST(take)


def rest(name: str, kind: str) -> Any:
    """A view of Django REST framework, with all the parsers it has by default."""
    from rest_framework import serializers
    from rest_framework.decorators import api_view

    kinds = {
        "integer": serializers.IntegerField(),
        "decimal": serializers.DecimalField(max_digits=20, decimal_places=2),
    }
    made: Any = type("Paid", (serializers.Serializer,), {"amount": kinds[kind]})

    def pay(request: Any) -> Any:
        read = made(data=request.data)
        read.is_valid(raise_exception=True)
        return act(name, request, read.validated_data["amount"], body=True)

    return api_view(["POST"])(pay)


@require_POST
def transfer(request: HttpRequest) -> Any:
    return act("transfer", request, int(request.GET["amount"]), to=request.GET["to"])


@require_POST
def rpc(request: HttpRequest) -> Any:
    return JsonResponse(paid_calls(json.loads(request.body), partial(act, "rpc", request, body=True)), safe=False)


@require_POST
def tip(request: HttpRequest) -> Any:
    return act("tip", request, Decimal(request.headers["x-amount"]))


class Order(View):
    def get(self, request: HttpRequest, **_values: str) -> Any:
        return act("order", request)

    def delete(self, request: HttpRequest, **_values: str) -> Any:
        return act("cancel", request)


class Thing(View):
    def get(self, request: HttpRequest) -> Any:
        return act("thing", request)


def anything(request: HttpRequest) -> Any:
    """A view that says nothing about methods runs for each of them."""
    return act("any", request)


@require_safe
async def wallet(request: HttpRequest) -> Any:
    return act("wallet", request)


def simple(name: str) -> Any:
    def view(request: HttpRequest, **_values: object) -> Any:
        return act(name, request)

    return require_safe(view) if name != "ping" else require_GET(view)


def broken() -> None:
    msg = "as asked"
    raise RuntimeError(msg)


def pieces() -> Iterator[bytes]:
    yield b"first"
    msg = "as asked, in the middle"
    raise RuntimeError(msg)


def urls() -> list[Any]:
    admin = [path("payout", pays("payout", json.loads)), path("ping", simple("inner-ping"))]
    return [
        path("public/ping", simple("ping")),
        path("v1/payments", rest("pay", "decimal")),
        path("v1/gifts", pays("gift", json.loads)),
        path("v1/forms", takes("form", forms.DecimalField())),
        path("v1/uploads", takes("upload", forms.DecimalField())),
        path("v1/either", takes("either", forms.DecimalField())),
        path("v1/transfers", transfer),
        path("v1/tips", tip),
        path("rpc", rpc),
        path("v1/as/integer", rest("integer", "integer")),
        path("v1/as/decimal", rest("decimal", "decimal")),
        path("v1/as/form-integer", takes("form-integer", forms.IntegerField())),
        path("v1/as/form-decimal", takes("form-decimal", forms.DecimalField())),
        *(path(f"v1/read/{reader}", pays(f"read-{reader}", loads)) for reader, loads in READERS.items()),
        path("v1/orders/<str:id>", Order.as_view()),
        path("v1/numbers/<int:n>", simple("number")),
        path("files/<path:path>", simple("file")),
        path("v1/wallet", wallet),
        path("v1/things", Thing.as_view()),
        path("v1/any", anything),
        path("v1/slashed/", simple("slashed")),
        path("admin/", include((admin, "admin"))),
        path("v1/broken", pays("broken", json.loads, broken)),
        path("v1/declined", pays("declined", json.loads, lambda: HttpResponse(status=402))),
        path("v1/stream", pays("stream", json.loads, lambda: StreamingHttpResponse(pieces()))),
    ]


def configure() -> None:
    """One project a process: whether the layer stands inside its fence is up to the environment."""
    layered = os.environ.get("CORPUS_APP") == "layered"
    settings.configure(
        SECRET_KEY="not a secret: it signs nothing here",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["rest_framework", "afmiddleware_django"],
        MIDDLEWARE=[FENCE, COMMON, *([LAYER, SEAL] if layered else [])],
        ROOT_URLCONF="corpus_urls",
        AFMIDDLEWARE={"policy": os.environ["AFM_POLICY"]},
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_PERMISSION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
        USE_TZ=True,
    )
    django.setup()
    module = sys.modules["corpus_urls"] = ModuleType("corpus_urls")
    vars(module)["urlpatterns"] = urls()


def create_wsgi() -> Any:
    """The project for a WSGI server."""
    configure()
    return get_wsgi_application()


def create_asgi() -> Any:
    """The project for an ASGI server."""
    configure()
    return get_asgi_application()
