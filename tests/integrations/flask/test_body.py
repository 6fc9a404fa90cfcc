"""The view gets exactly the bytes that were judged, however it reads them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request, request_started

from tests.conformance.wsgi import call, environ_of
from tests.integrations.flask.fenced import POLICY, Tried

BODY = json.dumps({"amount": "4.00", "note": "é" * 1000}).encode()


def from_environ() -> bytes:
    stream = request.environ["wsgi.input"]
    return b"".join(iter(lambda: stream.read(100), b""))


READERS: dict[str, Any] = {
    "get_data": lambda: request.get_data(cache=False),
    "data": lambda: request.data,
    "json": lambda: json.dumps(request.get_json()).encode(),
    "stream": lambda: request.stream.read(-1),
    "lines": lambda: b"".join(request.stream),
    "environ": from_environ,
    "twice": lambda: (request.get_data(), request.get_data())[1],
    "length": lambda: request.stream.read(request.content_length or 0),
}


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    tried = Tried(tmp_path)
    yield tried
    tried.fence.close()


def reading(tried: Tried, reader: Any) -> Flask:
    app = tried.app()

    def pay() -> str:
        tried.ran.append(("pay", {}, reader()))
        return "done"

    app.view_functions["pay"] = pay
    tried.extension.init_app(app)
    return app


class Slow(io.RawIOBase):
    """A stream that gives few bytes at a time, as a socket does."""

    def __init__(self, body: bytes, *, fails: bool = False) -> None:
        self._rest = body
        self._fails = fails

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "a socket's read without a size waits for the client to leave"
        if not self._rest and self._fails:
            raise OSError("the client has left")
        piece, self._rest = self._rest[: min(size, 7)], self._rest[min(size, 7) :]
        return piece


def asked(body: bytes, *, length: str | None = None, **more: Any) -> dict[str, Any]:
    headers = [("host", "x"), ("content-type", "application/json")]
    headers += [("content-length", str(len(body)) if length is None else length)] if length != "" else []
    return environ_of("POST", "/pay", headers, b"") | {"wsgi.input": Slow(body), "wsgi.input_terminated": False} | more


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_view_reads_what_was_judged(tried: Tried, reader: Any) -> None:
    status, _, _ = call(reading(tried, reader), asked(BODY))
    assert status == 200
    assert tried.ran == [("pay", {}, BODY)]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_view_reads_a_chunked_body_that_was_judged(tried: Tried, reader: Any) -> None:
    chunked: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    status, _, _ = call(reading(tried, reader), asked(BODY, length="", **chunked))
    assert status == 200
    assert tried.ran == [("pay", {}, BODY)]


def test_chunks_that_the_server_does_not_end_are_refused(tried: Tried) -> None:
    app = reading(tried, from_environ)
    status, _, answer = call(app, asked(BODY, length="", HTTP_TRANSFER_ENCODING="chunked"))
    assert (status, json.loads(answer)["code"]) == (400, "request.ambiguous")
    assert tried.ran == []


def test_a_stream_that_was_touched_before_is_made_anew(tried: Tried, tmp_path: Path) -> None:
    def touch(_app: Flask, **_more: Any) -> None:
        assert request.stream is not None

    app = reading(tried, READERS["stream"])
    request_started.connect(touch, app)
    status, _, _ = call(app, asked(BODY))
    assert (status, tried.ran) == (200, [("pay", {}, BODY)])


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(Slow(BODY[:20]), id="an end too early"),
        pytest.param(Slow(BODY[:20], fails=True), id="a failing read"),
        pytest.param(Slow(b""), id="somebody has read it"),
    ],
)
def test_half_a_body_runs_nothing_and_charges_nothing(tried: Tried, stream: Any) -> None:
    status, _, answer = call(reading(tried, from_environ), asked(BODY, **{"wsgi.input": stream}))
    assert (status, answer) == (400, b"")
    assert (tried.ran, tried.receipts(), tried.spent()) == ([], [], 0)


def test_a_client_that_leaves_between_chunks_runs_nothing(tried: Tried) -> None:
    chunked: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    chunked["wsgi.input"] = Slow(b'{"amount": "4.00"}', fails=True)
    status, _, answer = call(reading(tried, from_environ), asked(b"", length="", **chunked))
    assert (status, answer) == (400, b"")
    assert (tried.ran, tried.receipts(), tried.spent()) == ([], [], 0)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_cap_is_refused_without_being_held(tried: Tried, *, chunked: bool) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            self.taken += size
            return b" " * size

    stream = Endless()
    more: dict[str, Any] = {"wsgi.input": stream}
    if chunked:
        more |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    status, _, answer = call(reading(tried, from_environ), asked(b"", length="" if chunked else "99999999", **more))
    assert (status, json.loads(answer)["code"]) == (413, "request.too_large")
    assert stream.taken <= 1024 * 1024 + 1
    assert chunked or stream.taken == 0


def test_a_body_that_no_rule_needs_is_not_read(tmp_path: Path) -> None:
    tried = Tried(tmp_path, POLICY.replace("capability: a.keep, amount: {from: body.amount}", "capability: a.keep"))
    app = tried.app()
    stream = Slow(BODY)

    def keep() -> str:
        assert request.environ["wsgi.input"] is stream
        return "done"

    app.view_functions["keep"] = keep
    tried.extension.init_app(app)
    environ = asked(BODY) | {"wsgi.input": stream, "PATH_INFO": "/keep", "RAW_URI": "/keep"}
    status, _, _ = call(app, environ)
    assert status == 200


def test_observe_hands_on_what_it_has_read_of_a_body_over_the_cap(tmp_path: Path) -> None:
    tried = Tried(tmp_path, f"mode: observe\n{POLICY}")
    body = b" " * (1024 * 1024 + 10) + BODY
    chunked: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    chunked["wsgi.input"] = io.BytesIO(body)
    status, _, _ = call(reading(tried, READERS["get_data"]), asked(b"", length="", **chunked))
    assert (status, tried.ran) == (200, [("pay", {}, body)])
