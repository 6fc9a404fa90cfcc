"""Layers that must not stand between a fence and the handlers. The policy names them, so that the start passes and
the seal has to hold. What one does to a request, the header `x-layer` says.
"""

from __future__ import annotations

import gzip
import io
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER = b'{"amount": 5000}'


class AsgiLayer:
    """It changes the scope, the copy of a scope, or the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = dict(scope.get("headers", ()))
        kind = told.get(b"x-layer", b"").decode()
        if kind == "method":
            scope["method"] = told[b"x-real-method"].decode()
        elif kind == "query":
            scope["query_string"] = b"amount=5000&to=mallory"
        elif kind == "copy":
            scope = {**scope, "path": "/v1/payments", "raw_path": b"/v1/payments", "method": "POST"}
        elif kind == "path":
            scope["path"] = scope["raw_path"] = "/v1/payments"
            scope["method"] = "POST"
        elif kind == "eat":
            await Request(scope, receive).body()

        async def other() -> Message:
            if kind == "inflate":
                message = await receive()
                return {**message, "body": gzip.decompress(message["body"])}
            return {"type": "http.request", "body": OTHER, "more_body": False}

        await self.app(scope, other if kind in {"copy", "path", "eat", "inflate"} else receive, send)


class WsgiLayer:
    """The same for WSGI, where a fence inside a framework decides behind it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        kind = environ.get("HTTP_X_LAYER")
        if kind == "method":
            environ["REQUEST_METHOD"] = environ["HTTP_X_REAL_METHOD"]
        elif kind == "query":
            environ["QUERY_STRING"] = "amount=5000&to=mallory"
        elif kind in {"path", "copy"}:
            environ["REQUEST_METHOD"], environ["PATH_INFO"] = "POST", "/v1/payments"
        if kind in {"path", "copy", "eat", "inflate"}:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = gzip.decompress(body) if kind == "inflate" else OTHER
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
            environ["CONTENT_TYPE"] = "application/json"
        return self.app(environ, start_response)
