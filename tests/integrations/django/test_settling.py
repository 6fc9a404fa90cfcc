"""What becomes of an admitted action: answers, streams, failures, clients that leave."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from afmiddleware.current import current_action
from afmiddleware.errors import AFError
from tests.conformance import wsgi
from tests.integrations.django.fenced import Door, Tried, admitted, scope_of
from tests.integrations.django.project import FENCE, SEAL

PAID = b'{"amount": "4.00"}'
HEADERS = [("host", "api.example.com"), ("content-type", "application/json"), ("content-length", str(len(PAID)))]
CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def fails(error: Exception) -> Any:
    def run(_request: HttpRequest) -> HttpResponse:
        raise error

    return run


async def async_view(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    current_action().settle("1.50")
    return HttpResponse(current_action().actor.id)


def settles(request: HttpRequest) -> HttpResponse:
    current_action().settle("1.50")
    return HttpResponse("")


def releases(request: HttpRequest) -> HttpResponse:
    current_action().release()
    return HttpResponse("", status=500)


@pytest.mark.parametrize(
    ("name", "answer", "status", "settled", "spent"),
    [
        ("pay", HttpResponse("", status=201), 201, ("capture", "ok"), 400),
        ("pay", HttpResponse("", status=302, headers={"location": "/"}), 302, ("capture", "ok"), 400),
        ("pay", HttpResponse("", status=402), 402, ("release", "ok"), 0),
        ("keep", HttpResponse("", status=402), 402, ("capture", "ok"), 400),
        ("pay", HttpResponse("", status=503), 503, ("unknown", "ok"), 400),
        ("pay", fails(Http404()), 404, ("release", "ok"), 0),
        ("pay", fails(PermissionDenied()), 403, ("release", "ok"), 0),
        ("pay", fails(ValueError()), 500, ("unknown", "error"), 400),
        ("keep", fails(ValueError()), 500, ("unknown", "error"), 400),
        ("pay", settles, 200, ("capture", "ok"), 150),
        ("pay", async_view, 200, ("capture", "ok"), 150),
        ("pay", releases, 500, ("release", "ok"), 0),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:Warning:django")
def test_an_answer_ends_the_action(
    tried: Tried, kind: str, name: str, answer: Any, status: int, settled: tuple[str, str], spent: int
) -> None:
    patterns = tried.patterns(**{name: None if answer is async_view else answer})
    if answer is async_view:
        patterns = [path(name, async_view), *tried.patterns()[1:]]
    with tried.door(kind, patterns) as door:
        assert door.json("POST", f"/{name}", {"amount": "4.00"}).status == status
    assert (tried.settled(), tried.spent()) == ([settled], spent)


def test_an_answer_carries_its_receipt(tried: Tried, kind: str) -> None:
    with tried.door(kind) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"}, ("origin", "https://app.example"))
        assert "seq=" in answer.headers["agent-receipt"]
        assert "Agent-Receipt" in answer.headers["access-control-expose-headers"]
        assert "agent-receipt" not in door.send("GET", "/health").headers


def test_what_the_project_exposes_stays_exposed(tried: Tried, kind: str) -> None:
    own = HttpResponse("", headers={"access-control-expose-headers": "X-Own"})
    with tried.door(kind, tried.patterns(pay=own)) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"}, ("origin", "https://app.example"))
    assert answer.headers["access-control-expose-headers"].startswith("X-Own, Agent-Receipt")


def test_the_action_is_the_views_alone(tried: Tried, kind: str) -> None:
    seen: list[bool] = []

    def look(_request: HttpRequest) -> HttpResponse:
        seen.append(admitted())
        return HttpResponse("")

    with tried.door(
        kind, [*tried.patterns(pay=look, read=look)[:3], path("health", tried.view("h", look, "get").as_view())]
    ) as door:
        door.json("POST", "/pay", {"amount": "4.00"})
        door.send("GET", "/health")
        door.send("GET", "/read/7")
        seen.append(admitted())
    assert seen == [True, False, True, False]


def pieces(*, breaks: bool = False) -> Iterator[bytes]:
    yield b"one"
    current_action().settle("2.00")
    if breaks:
        raise ValueError
    yield b"two"


async def apieces(*, breaks: bool = False) -> AsyncIterator[bytes]:
    for piece in pieces(breaks=breaks):
        await asyncio.sleep(0)
        yield piece


def streamed(kind: str, *, breaks: bool = False) -> StreamingHttpResponse:
    return StreamingHttpResponse((apieces if kind == "asgi" else pieces)(breaks=breaks))


def test_a_stream_is_followed_to_its_end(tried: Tried, kind: str) -> None:
    with tried.door(kind, tried.patterns(pay=lambda _request: streamed(kind))) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert answer.body == b"onetwo"
    assert (tried.settled(), tried.spent()) == ([("capture", "ok")], 200)


def test_a_stream_that_breaks(tried: Tried, kind: str) -> None:
    with (
        tried.door(kind, tried.patterns(pay=lambda _request: streamed(kind, breaks=True))) as door,
        pytest.raises(ValueError),
    ):
        door.json("POST", "/pay", {"amount": "4.00"})
    assert [end for _, end in tried.settled()] == ["error"]


def test_a_client_that_leaves_a_stream_under_wsgi(tried: Tried) -> None:
    with tried.door("wsgi", tried.patterns(pay=lambda _request: StreamingHttpResponse(iter([b"one", b"two"])))) as door:
        answer = door.app(wsgi.environ_of("POST", "/pay", HEADERS, PAID), lambda *_told: None)
        assert next(iter(answer)) == b"one"
        answer.close()
    assert (tried.settled(), tried.spent()) == ([("unknown", "client_gone")], 400)


@pytest.mark.skipif(django.VERSION < (5, 0), reason="Django 4.2 does not look whether the client is still there")
@pytest.mark.parametrize("place", ["view", "stream"])
def test_a_client_that_leaves_under_asgi(tried: Tried, place: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"piece"
            await asyncio.sleep(0)

    async def waits(_request: HttpRequest) -> HttpResponse:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def stream(_request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(endless())

    async def leave(door: Door) -> None:
        pending = [{"type": "http.request", "body": PAID, "more_body": False}]

        async def receive() -> Any:
            if pending:
                return pending.pop()
            await entered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                entered.set()

        await door.app(scope_of("POST", "/pay", HEADERS), receive, send)

    entered = asyncio.Event()
    with tried.door("asgi", [path("pay", waits if place == "view" else stream), *tried.patterns()[1:]]) as door:
        asyncio.run(leave(door))
    assert (tried.settled(), tried.spent()) == ([("unknown", "client_gone")], 400)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_file_is_whole_and_closed(tried: Tried, kind: str) -> None:
    files: list[io.BytesIO] = []

    def report(_request: HttpRequest) -> FileResponse:
        files.append(io.BytesIO(b"a,b\n" * 5000))
        return FileResponse(files[0], filename="report.csv")

    with tried.door(kind, tried.patterns(pay=report)) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (len(answer.body), answer.headers["content-length"], files[0].closed) == (20000, "20000", True)
    assert tried.settled() == [("capture", "ok")]


def test_head_of_a_stream_ends_it_although_nobody_asks_for_its_pieces(tried: Tried) -> None:
    with tried.door("wsgi", tried.patterns(read=lambda _request: streamed("wsgi"))) as door:
        answer = door.app(wsgi.environ_of("HEAD", "/read/7", HEADERS[:1], b""), lambda *_told: None)
        assert tried.settled() == []
        answer.close()
    assert tried.settled() == [("capture", "ok")]


def test_a_stream_that_a_middleware_puts_away_ends_too(tried: Tried, kind: str) -> None:
    def dated(_request: HttpRequest) -> StreamingHttpResponse:
        answer = streamed(kind)
        answer["Last-Modified"] = "Sat, 21 Nov 2026 00:00:00 GMT"
        return answer

    outside = ["django.middleware.http.ConditionalGetMiddleware", FENCE]
    with tried.door(kind, tried.patterns(read=dated), MIDDLEWARE=outside) as door:
        known = ("if-modified-since", "Sat, 21 Nov 2026 00:00:00 GMT")
        assert door.send("GET", "/read/7", headers=[known]).status == 304
    gc.collect()
    assert tried.settled() == [("unknown", "client_gone")]


def test_a_transaction_of_the_view_is_not_the_ledgers(tried: Tried, kind: str) -> None:
    def writes(_request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO tried_bill VALUES (1)")
        raise ValueError

    def count(_request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS tried_bill (id INTEGER)")
            cursor.execute("SELECT count(*) FROM tried_bill")
            return HttpResponse(str(cursor.fetchone()[0]))

    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        with tried.door(kind, tried.patterns(pay=writes, read=count)) as door:
            assert door.send("GET", "/read/7").body == b"0"
            assert door.json("POST", "/pay", {"amount": "4.00"}).status == 500
            assert door.send("GET", "/read/7").body == b"0"
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert tried.settled()[1] == ("unknown", "error")
    assert tried.spent() == 400


@pytest.mark.parametrize("sealed", [True, False])
def test_a_call_that_csrf_refuses_gives_the_money_back(tried: Tried, kind: str, sealed: bool) -> None:
    with tried.door(kind, MIDDLEWARE=[FENCE, CSRF, *([SEAL] if sealed else [])]) as door:
        assert door.json("POST", "/pay", {"amount": "4.00"}).status == 403
    assert (tried.ran, tried.spent()) == ([], 0)
    assert tried.settled() == [("release", "not_reached" if sealed else "ok")]


def test_a_ledger_that_fails_lets_nothing_run(tried: Tried, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from afmiddleware.errors import LedgerUnavailableError

    def down(*_told: Any) -> Any:
        raise LedgerUnavailableError("down")

    with tried.door(kind) as door:
        monkeypatch.setattr(tried.fence.ledger, "commit", down)
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (answer.status, answer.code, tried.ran) == (503, "ledger.unavailable", [])


def test_there_is_no_action_outside_of_one() -> None:
    with pytest.raises(AFError):
        current_action()


def test_sqlite_under_both(tmp_path: Path, kind: str) -> None:
    tried = Tried(tmp_path, ledger="sqlite:///fence.db")
    with tried.door(kind) as door:
        assert door.json("POST", "/pay", {"amount": "4.00"}).status == 200
        assert door.json("POST", "/pay", {"amount": "97.00"}).code == "spend.exceeded"
    assert tried.spent() == 400
    tried.fence.close()


@pytest.mark.parametrize(("name", "status", "settled"), [("pay", 503, "unknown"), ("keep", 402, "capture")])
def test_what_the_seal_has_seen_reach_the_view_is_kept(
    tried: Tried, kind: str, name: str, status: int, settled: str
) -> None:
    patterns = tried.patterns(**{name: HttpResponse("", status=status)})
    with tried.door(kind, patterns, MIDDLEWARE=[FENCE, SEAL]) as door:
        assert door.json("POST", f"/{name}", {"amount": "4.00"}).status == status
    assert (tried.settled(), tried.spent()) == ([(settled, "ok")], 400)
