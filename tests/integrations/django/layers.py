"""Middlewares that stand between the fence and the views, by the import path a policy names."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import resolve


class Layer:
    """Sync and async capable; what it does is `before` the router and `between` the decision and the view."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        asked = self.before(request)
        return self.get_response(request if asked is None else asked)

    def before(self, request: HttpRequest) -> HttpRequest | None:
        """Nothing, in most."""

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, kwargs: dict[str, Any]) -> HttpResponse | None:
        return self.between(request, kwargs)

    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        """Nothing, in most."""


class OtherMethod(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        request.method = "POST"


class OtherArguments(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        kwargs["id"] = "8"


class OtherQuery(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        request.META["QUERY_STRING"] = "amount=5000"
        vars(request).pop("GET", None)


class OtherBody(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        vars(request)["_body"] = b'{"amount": "5000"}'


class EarlyMethod(Layer):
    """An override of the method before routing: what it makes of it is judged."""

    def before(self, request: HttpRequest) -> None:
        request.method = request.META.get("HTTP_X_METHOD", request.method)


class EarlyQuery(Layer):
    def before(self, request: HttpRequest) -> None:
        vars(request)["GET"] = QueryDict("amount=5000")


class EarlyForm(Layer):
    def before(self, request: HttpRequest) -> None:
        request.POST = QueryDict("amount=5000")


class OtherMatch(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        request.resolver_match = resolve("/health")


class Copy(Layer):
    def before(self, request: HttpRequest) -> HttpRequest:
        return copy.copy(request)


class Login(Layer):
    def between(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse:
        return HttpResponse("log in first", status=401)


class Answers(Layer):
    """A cache, say."""

    def __call__(self, request: HttpRequest) -> Any:
        if "cached" not in request.META["QUERY_STRING"]:
            return super().__call__(request)
        if iscoroutinefunction(self.get_response):

            async def later() -> HttpResponse:
                return HttpResponse("cached")

            return later()
        return HttpResponse("cached")


class ReadsBody(Layer):
    def before(self, request: HttpRequest) -> None:
        len(request.body)


class ReadsForm(Layer):
    def before(self, request: HttpRequest) -> None:
        request.POST.get("amount")


class ReadsStream(Layer):
    def before(self, request: HttpRequest) -> None:
        request.read(3)


class ReadsLines(Layer):
    def before(self, request: HttpRequest) -> None:
        io.BytesIO(b"".join(request)).read()
