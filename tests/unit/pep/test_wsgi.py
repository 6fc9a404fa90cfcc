"""Any WSGI application behind the policy's own table of routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.errors import AFError, ConfigError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.pep.wsgi import FenceMiddleware
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock
from tests.conformance.wsgi import call, environ_of

POLICY = """
version: 1
service: s
ledger: memory
routes:
  - {route: GET /health, public: true}
  - {route: "GET /x/{id}", capability: x.read, resource: "x:{path.id}"}
  - {route: POST /pay, capability: pay.now, amount: {from: body.amount}}
  - {route: GET /api/both, capability: both.outer}
  - {route: GET /both, capability: both.inner}
rules: {allow: [x.*, pay.*, both.*]}
"""
PAY = b'{"amount": 5}'


class App:
    """Notes what it acted on, and answers as its `answer` does."""

    def __init__(self, answer: Any = None) -> None:
        self.ran: list[tuple[str, str, bytes, str]] = []
        self._answer = answer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            event = current_action().event
            resource = (event.resource or "") if event is not None else ""
        except AFError:
            resource = "public"
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        self.ran.append((environ["REQUEST_METHOD"], path, environ["wsgi.input"].read(), resource))
        if self._answer is not None:
            return self._answer(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]


class Answered:
    """The outcome of one request."""

    def __init__(self, fence: FenceMiddleware) -> None:
        bodies = [strict_parse(one.receipt.body) for one in fence.fence.ledger.receipts(Filter())]
        self.ended = [(one["settlement"], one["end"], one["status"]) for one in bodies if one["kind"] == "outcome"]


def fenced(text: str = POLICY, answer: Any = None) -> tuple[App, FenceMiddleware]:
    app = App(answer)
    return app, FenceMiddleware(app, fence=Fence(load(text), clock=FrozenClock()))


def asked(method: str, path: str, body: bytes = b"", **more: Any) -> dict[str, Any]:
    headers = [("host", "h")]
    if body:
        headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
    return environ_of(method, path, headers, body) | more


def ended(fence: FenceMiddleware) -> list[tuple[Any, ...]]:
    return Answered(fence).ended


@pytest.mark.parametrize(
    ("method", "path", "status", "ran"),
    [
        ("GET", "/health", 200, [("GET", "/health", b"", "public")]),
        ("HEAD", "/health", 200, [("HEAD", "/health", b"", "public")]),
        ("GET", "/x/7", 200, [("GET", "/x/7", b"", "x:7")]),
        ("HEAD", "/x/7", 200, [("HEAD", "/x/7", b"", "x:7")]),
        ("GET", "/x/7/", 403, []),
        ("GET", "/health/", 403, []),
        ("POST", "/health", 403, []),
        ("OPTIONS", "/health", 403, []),
        ("BREW", "/health", 403, []),
        ("GET", "/nothing", 403, []),
        ("GET", "//health", 400, []),
        ("GET", "/x/../health", 400, []),
        ("GET", "/health%0A", 400, []),
    ],
)
def test_what_the_table_lists_runs_and_nothing_else(method: str, path: str, status: int, ran: Any) -> None:
    app, fence = fenced()
    assert call(fence, asked(method, path))[0] == status
    assert app.ran == ran


def test_without_the_path_as_sent_the_decoded_one_is_judged() -> None:
    app, fence = fenced()
    for path, status in (("/x/7", 200), ("/x//7", 400), ("/x/..", 400), ("/x/\xff", 400), ("/x/a\x00", 400)):
        environ = asked("GET", "/x/7") | {"PATH_INFO": path}
        del environ["RAW_URI"]
        assert call(fence, environ)[0] == status
    assert len(app.ran) == 1


def test_the_application_receives_the_bytes_that_were_judged() -> None:
    app, fence = fenced()
    assert call(fence, asked("POST", "/pay", PAY))[0] == 200
    assert app.ran == [("POST", "/pay", PAY, "")]
    assert call(fence, asked("POST", "/pay", b'{"amount": -5}'))[0] == 422
    assert call(fence, asked("POST", "/pay", PAY) | {"CONTENT_LENGTH": "400"})[0] == 400
    assert len(app.ran) == 1


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("", "/x/7", 200),
        ("/api", "/x/7", 200),
        ("/api", "/nothing", 403),
        # Listed with the prefix and without it: which one the application means cannot be told.
        ("/api", "/both", 403),
        ("", "/both", 200),
        ("", "/api/both", 200),
    ],
)
def test_script_name(root: str, path: str, status: int) -> None:
    app, fence = fenced()
    assert call(fence, asked("GET", root + path) | {"SCRIPT_NAME": root, "PATH_INFO": path})[0] == status
    assert len(app.ran) == (status == 200)


@pytest.mark.parametrize(
    ("answer", "status", "how"),
    [
        pytest.param(None, 200, ("capture", "ok", "200"), id="2xx"),
        pytest.param(lambda _e, start: (start("409 Conflict", []), [])[1], 409, ("release", "ok", "409"), id="4xx"),
        pytest.param(lambda _e, start: (start("503 No", []), [])[1], 503, ("unknown", "ok", "503"), id="5xx"),
    ],
)
def test_how_an_action_ends(answer: Any, status: int, how: Any) -> None:
    _, fence = fenced(answer=answer)
    assert call(fence, asked("POST", "/pay", PAY))[0] == status
    assert [tuple(map(str, one)) for one in ended(fence)] == [how]


def late(_environ: Any, start_response: Any) -> Iterator[bytes]:
    """An application that is a generator starts its answer when the first piece is asked for."""
    start_response("200 OK", [])
    yield str(current_action().actor.id).encode()


def test_an_answer_that_starts_late_has_its_headers_too() -> None:
    _, fence = fenced(answer=late)
    status, headers, body = call(fence, asked("POST", "/pay", PAY))
    assert (status, body) == (200, b"address:203.0.113.9/32")
    assert "agent-receipt" in dict(headers)
    assert [one[0] for one in ended(fence)] == ["capture"]


def failing(_environ: Any, _start_response: Any) -> Any:
    msg = "as asked"
    raise RuntimeError(msg)


def failing_late(_environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"first"
    msg = "half-way"
    raise RuntimeError(msg)


def silent(_environ: Any, _start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize("answer", [failing, failing_late])
def test_what_the_application_raises_comes_out_and_keeps_the_money(answer: Any) -> None:
    _, fence = fenced(answer=answer)
    with pytest.raises(RuntimeError):
        call(fence, asked("POST", "/pay", PAY))
    assert [one[:2] for one in ended(fence)] == [("unknown", "error")]


def test_an_answer_that_never_starts_keeps_the_money() -> None:
    _, fence = fenced(answer=silent)
    answer = fence(asked("POST", "/pay", PAY), lambda *_: lambda _data: None)
    assert list(answer) == []
    answer.close()  # type: ignore[attr-defined]
    assert [one[0] for one in ended(fence)] == ["unknown"]


class Closing:
    """The pieces of an answer, whose end is to be told."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"1", b"2"])

    def close(self) -> None:
        self.closed += 1
        msg = "while closing"
        raise RuntimeError(msg)


def test_the_applications_own_close_is_called_and_its_failure_loses_no_outcome() -> None:
    pieces = Closing()
    _, fence = fenced(answer=lambda _e, start: (start("200 OK", []), pieces)[1])
    with pytest.raises(RuntimeError):
        call(fence, asked("POST", "/pay", PAY))
    assert pieces.closed == 1
    assert [one[:2] for one in ended(fence)] == [("capture", "ok")]


def test_a_public_answer_is_the_applications_own_object() -> None:
    pieces = [b"1", b"2"]
    _, fence = fenced(answer=lambda _e, start: (start("200 OK", []), pieces)[1])
    assert fence(asked("GET", "/health"), lambda *_: lambda _data: None) is pieces


def test_an_error_after_the_start_may_start_again() -> None:
    def answer(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            failing(_environ, start_response)
        except RuntimeError as error:
            start_response("500 Oops", [], (type(error), error, error.__traceback__))
        return [b"sorry"]

    _, fence = fenced(answer=answer)
    assert call(fence, asked("POST", "/pay", PAY))[0] == 500
    assert [one[0] for one in ended(fence)] == ["unknown"]


def test_in_observe_mode_what_is_not_listed_passes() -> None:
    app, fence = fenced(POLICY + "mode: observe\n")
    assert call(fence, asked("GET", "/nothing"))[0] == 200
    assert call(fence, asked("POST", "/pay", b"{"))[0] == 200
    assert [path for _, path, _, _ in app.ran] == ["/nothing", "/pay"]


def test_a_changed_policy_is_a_changed_table() -> None:
    _, fence = fenced()
    assert call(fence, asked("GET", "/new"))[0] == 403
    newer = Fence(load(POLICY.replace("GET /health", "GET /new"))).plan
    fence.fence.plan = replace(fence.fence.plan, bindings=newer.bindings)
    assert call(fence, asked("GET", "/new"))[0] == 200
    assert call(fence, asked("GET", "/health"))[0] == 403


def test_a_policy_that_is_no_table_stops_every_request(caplog: pytest.LogCaptureFixture) -> None:
    app, fence = fenced(POLICY.replace("GET /both", "GET //host/both"))
    assert call(fence, asked("GET", "/health"))[0] == 503
    assert "route GET //host/both names a host" in caplog.text
    assert app.ran == []


def test_from_a_policy_file(tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY, encoding="utf-8")
    fence = FenceMiddleware(App(), policy=tmp_path / "fence.yaml")
    assert call(fence, asked("GET", "/x/7"))[0] == 200
    fence.fence.close()
    with pytest.raises(ConfigError, match="there is no policy file"):
        FenceMiddleware(App(), policy=tmp_path / "none.yaml")


def test_nobody_sees_the_action_of_another_request() -> None:
    _, fence = fenced(answer=late)
    answer = fence(asked("POST", "/pay", PAY), lambda *_: lambda _data: None)
    with pytest.raises(AFError):
        current_action()
    assert next(iter(answer)) == b"address:203.0.113.9/32"
    with pytest.raises(AFError):
        current_action()
    answer.close()  # type: ignore[attr-defined]


class Counting(Fence):
    """Counts the conclusions it is asked for; the ledger would book the first alone."""

    concluded = 0

    def conclude(self, *args: Any) -> None:
        self.concluded += 1
        super().conclude(*args)


@pytest.mark.parametrize("answer", [None, late, failing_late])
def test_an_action_is_concluded_exactly_once(answer: Any) -> None:
    counting = Counting(load(POLICY), clock=FrozenClock())
    pieces: Any = FenceMiddleware(App(answer), fence=counting)(
        asked("POST", "/pay", PAY), lambda *_: lambda _data: None
    )
    with suppress(RuntimeError):
        list(pieces)
    pieces.close()
    pieces.close()
    assert counting.concluded == 1


@pytest.mark.parametrize(("accepted", "status"), [("", 503), ("1", 200)])
def test_a_ledger_in_memory_does_not_serve_several_processes(
    monkeypatch: pytest.MonkeyPatch, accepted: str, status: int
) -> None:
    monkeypatch.setenv("AFM_MEMORY_WORKERS", accepted)
    app, fence = fenced()
    assert call(fence, asked("GET", "/health") | {"wsgi.multiprocess": True})[0] == status
    assert len(app.ran) == (status == 200)


def test_a_refused_head_has_no_body() -> None:
    _, fence = fenced()
    status, headers, body = call(fence, asked("HEAD", "/nothing"))
    assert (status, body) == (403, b"")
    assert int(dict(headers)["content-length"]) > 0
