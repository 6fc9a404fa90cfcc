"""A WSGI server of the least kind: one request in, the whole answer out, headers joined as gunicorn joins them."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tests.conformance.harness import Case, Scene, Seen, told_of
from tests.conformance.harness import cases as all_cases
from tests.conformance.test_cases_core import seen_of

ELSEWISE: dict[str, dict[str, Any]] = {
    # The server drops the header, so the request is one without it.
    "an underscore in a header name": {"status": 200},
    # Two lines come in as one, joined with a comma, which the handler sees in the same way.
    "two of that header": {"status": 422, "code": "amount.unresolvable"},
}
"""What WSGI cannot tell apart, and what is expected then."""


def cases() -> list[Case]:
    return [msgspec.structs.replace(case, expect=ELSEWISE.get(case.id, case.expect)) for case in all_cases()]


def environ_of(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": target,
        "SERVER_NAME": "api.example.com",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        if "_" in name:
            continue  # gunicorn and Werkzeug drop such a header
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def call(app: Any, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started[:] = [int(status[:3]), headers]
        return lambda _data: None

    answer = app(environ, start_response)
    try:
        body = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[0], started[1], body


def send(app: Any, scene: Scene, request: dict[str, Any]) -> Seen:
    method, path, query, headers, body = scene.parts(request)
    target = f"{path}?{query}" if query else path
    status, answered, content = call(app, environ_of(method, target, headers, body))
    raw = [(name.lower().encode(), value.encode()) for name, value in answered]
    fields = dict(raw)
    told = told_of(raw, content)
    if told:
        assert fields[b"cache-control"] == b"no-store"
        assert told["status"] == status
        assert str(scene.fence.config.source).encode() not in content
    seen = seen_of(status, raw, b"")
    for name in ("code", "rule", "limit"):
        setattr(seen, name, told.get(name, ""))
    seen.told, seen.content = told, content
    return scene.note(seen)
