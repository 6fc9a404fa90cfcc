"""A middleware that must not stand between a fence and Django's views. The policy names it, and the seal has to hold."""

from __future__ import annotations

import io
from typing import Any

from django.http import HttpRequest

OTHER = b'{"amount": 5000}'


class Layer:
    """What it does to a request before Django has matched it, `x-layer` says; and after that, `x-late`."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        kind = request.headers.get("x-layer")
        if kind == "method":
            request.method = request.headers["x-real-method"]
        elif kind == "path":
            request.method, request.path_info = "POST", "/v1/gifts"
        elif kind == "query":
            request.META["QUERY_STRING"] = "amount=5000&to=mallory"
        elif kind == "eat":
            request._stream = io.BytesIO(OTHER)
            request.META["CONTENT_LENGTH"] = str(len(OTHER))
        elif kind == "swallow":
            request.read()
        return self.get_response(request)

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        kind = request.headers.get("x-late")
        if kind == "method":
            request.method = "DELETE"
        elif kind == "query":
            request.META["QUERY_STRING"] = "amount=5000&to=mallory"
            vars(request).pop("GET", None)
        elif kind == "params":
            kwargs["id"] = "other"
        elif kind == "body":
            request._body = OTHER
