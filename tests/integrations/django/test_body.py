"""The view receives exactly the bytes that were judged, whoever has read them before."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.conformance import wsgi
from tests.integrations.django.fenced import Door, Tried, scope_of
from tests.integrations.django.project import FENCE, SEAL, configure

configure()

from rest_framework.parsers import FormParser, JSONParser, MultiPartParser  # noqa: E402 (needs settings)
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

HERE = "tests.integrations.django.layers"
JSON = b'{"amount": "4.00", "note": "caf\xc3\xa9"}'
URLENCODED = b"amount=4.00&note=x"
BOUNDARY = "multipart/form-data; boundary=b"
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="amount"\r\n\r\n4.00\r\n'
    b'--b\r\nContent-Disposition: form-data; name="bill"; filename="bill.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"the bill\r\n--b--\r\n"
)
FORMS = """
routes:
  - {route: POST /json, capability: a.json, amount: {from: body.amount}}
  - {route: POST /form, capability: a.form, amount: {from: form.amount}, media: [urlencoded, multipart]}
  - {route: POST /fixed, capability: a.fixed, amount: 4 USD}
  - {route: POST /open, public: true}
rules: {allow: [a.*]}
limits:
  - {name: cap, spend: 100 USD, window: total, per: global}
"""


def seen_by_django(request: HttpRequest) -> JsonResponse:
    # First what a middleware may have put there: asking for the files would parse the form anew.
    post = request.POST.dict()
    uploads: dict[str, Any] = request.FILES.dict()
    files = {name: file.read().decode() for name, file in uploads.items()}
    return JsonResponse({"post": post, "files": files, "body": request.body.decode()})


def read_as_stream(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"read": request.read().decode()})


class Drf(APIView):
    parser_classes = (JSONParser, FormParser, MultiPartParser)
    authentication_classes = ()

    def post(self, request: Any) -> Response:
        told = {
            name: value.read().decode() if hasattr(value, "read") else value for name, value in request.data.items()
        }
        return Response(told)


PATTERNS = [
    path("json", seen_by_django),
    path("form", seen_by_django),
    path("fixed", seen_by_django),
    path("open", seen_by_django),
]
STREAMS = [path(name, read_as_stream) for name in ("json", "form", "fixed", "open")]
DRFS = [path(name, Drf.as_view()) for name in ("json", "form", "fixed", "open")]


@pytest.fixture
def forms(tmp_path: Path) -> Tried:
    return Tried(tmp_path, FORMS, inner=[f"{HERE}.{name}" for name in READERS])


READERS = ["ReadsBody", "ReadsForm", "ReadsStream", "ReadsLines", "EarlyForm"]
SENT = [("/json", "application/json", JSON), ("/form", "application/x-www-form-urlencoded", URLENCODED)]
SENT += [("/form", BOUNDARY, MULTIPART)]


def answered(door: Door, target: str, media: str, body: bytes) -> Any:
    answer = door.send("POST", target, body, [("content-type", media)])
    assert answer.status == 200, answer
    return json.loads(answer.body)


@pytest.mark.parametrize("reader", [None, *READERS])
@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize(("target", "media", "body"), SENT)
def test_a_django_view(
    kind: str, forms: Tried, reader: str | None, seal: bool, target: str, media: str, body: bytes
) -> None:
    middleware = [FENCE, *([f"{HERE}.{reader}"] if reader else []), *([SEAL] if seal else [])]
    with forms.door(kind, PATTERNS, MIDDLEWARE=middleware) as door:
        seen = answered(door, target, media, body)
    assert seen["body"].encode() == body
    assert seen["post"] == (
        {} if target == "/json" else {"amount": "4.00"} | ({"note": "x"} if body == URLENCODED else {})
    )
    assert seen["files"] == ({"bill": "the bill"} if body == MULTIPART else {})
    assert forms.spent() == 400


@pytest.mark.parametrize("reader", [None, *READERS])
@pytest.mark.parametrize(("target", "media", "body"), SENT)
def test_a_drf_view(kind: str, forms: Tried, reader: str | None, target: str, media: str, body: bytes) -> None:
    middleware = [FENCE, *([f"{HERE}.{reader}"] if reader else [])]
    with forms.door(kind, DRFS, MIDDLEWARE=middleware) as door:
        seen = answered(door, target, media, body)
    assert seen["amount"] == "4.00"
    assert (seen["bill"] == "the bill") if body == MULTIPART else len(seen) == 2
    assert forms.spent() == 400


@pytest.mark.parametrize("target", ["/json", "/fixed", "/open"])
def test_a_view_that_reads_the_stream(kind: str, forms: Tried, target: str) -> None:
    with forms.door(kind, STREAMS) as door:
        assert answered(door, target, "application/json", JSON) == {"read": JSON.decode()}


def test_a_form_that_nobody_judges_stays_as_it_is(kind: str, forms: Tried) -> None:
    with forms.door(kind, PATTERNS, MIDDLEWARE=[FENCE, f"{HERE}.ReadsForm"]) as door:
        for target in ("/fixed", "/open"):
            seen = answered(door, target, BOUNDARY, MULTIPART)
            assert (seen["post"], seen["files"]) == ({"amount": "4.00"}, {"bill": "the bill"})


def test_chunks_without_a_length_are_judged_and_reach_the_view(kind: str, forms: Tried) -> None:
    for patterns in (PATTERNS, DRFS):
        with forms.door(kind, patterns) as door:
            headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
            answer = door.send("POST", "/json", JSON, headers)
            assert answer.status == 200
            assert b"4.00" in answer.body
    assert forms.spent() == 800


@pytest.mark.parametrize("reader", [None, *READERS])
def test_a_body_that_no_header_announces_is_judged_and_reaches_the_view(tmp_path: Path, reader: str | None) -> None:
    """HTTP/2 has neither of the two headers: there a body may come without a word."""
    deny = "rules: {deny: [{capability: a.json, when: {payload.note: {eq: bomb}}}], allow: [a.*]}"
    tried = Tried(tmp_path, FORMS.replace("rules: {allow: [a.*]}", deny), inner=[f"{HERE}.{name}" for name in READERS])
    headers = [("host", "api.example.com"), ("content-type", "application/json")]
    with tried.door("asgi", PATTERNS, MIDDLEWARE=[FENCE, *([f"{HERE}.{reader}"] if reader else [])]) as door:
        answer = asyncio.run(door.asend("POST", "/json", JSON, headers))
        assert answer.status == 200
        assert json.loads(answer.body)["body"].encode() == JSON
        answer = asyncio.run(door.asend("POST", "/json", b'{"amount": "4.00", "note": "bomb"}', headers))
        assert (answer.status, answer.code) == (403, "policy.denied")
    assert tried.spent() == 400


@pytest.mark.parametrize("reader", [None, "ReadsBody", "ReadsStream"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_the_cap(kind: str, forms: Tried, reader: str | None, chunked: bool) -> None:
    body = b'{"amount": "4.00", "pad": "' + b"x" * 1024 * 1024 + b'"}'
    middleware = [FENCE, *([f"{HERE}.{reader}"] if reader else [])]
    headers = [("content-type", "application/json"), *([("transfer-encoding", "chunked")] if chunked else [])]
    with forms.door(kind, PATTERNS, MIDDLEWARE=middleware) as door:
        answer = door.send("POST", "/json", body, headers)
    assert (answer.status, answer.code, forms.spent()) == (413, "request.too_large", 0)


@pytest.mark.parametrize("reader", [None, "ReadsBody", "ReadsStream"])
def test_a_body_that_is_cut_off_is_neither_judged_nor_charged(kind: str, forms: Tried, reader: str | None) -> None:
    middleware = [FENCE, *([f"{HERE}.{reader}"] if reader else [])]
    headers = [("host", "api.example.com"), ("content-type", "application/json"), ("content-length", str(len(JSON)))]
    with forms.door(kind, PATTERNS, MIDDLEWARE=middleware) as door:
        if kind == "wsgi":
            environ = wsgi.environ_of("POST", "/json", headers, JSON[:16])
            assert wsgi.call(door.app, environ)[0] in (400, 500)
        else:
            asyncio.run(cut_off(door, headers))
    assert (forms.spent(), [one["kind"] for one in forms.receipts()]) == (0, [])


async def cut_off(door: Door, headers: list[tuple[str, str]]) -> None:
    pending = [{"type": "http.request", "body": JSON[:16], "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door.app(scope_of("POST", "/json", headers), receive, send)
    assert sent == []


def test_a_body_is_only_read_when_the_decision_needs_it(tmp_path: Path) -> None:
    class Untouched(io.BytesIO):
        def read(self, *_size: Any) -> bytes:
            raise AssertionError

    tried = Tried(
        tmp_path, FORMS.replace("rules: {allow: [a.*]}", "rules: {allow: [{capability: a.*, identity: token}]}")
    )
    headers = [("host", "api.example.com"), ("content-type", "application/json"), ("content-length", "9")]
    with tried.door("wsgi", PATTERNS) as door:
        environ = wsgi.environ_of("POST", "/json", headers, b"")
        environ["wsgi.input"] = Untouched()
        assert wsgi.call(door.app, environ)[0] == 401


def test_a_body_that_nobody_judges_is_not_read_ahead(forms: Tried) -> None:
    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            read.append(len(piece))
            return piece

    def first_bytes(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"read": request.read(5).decode()})

    read: list[int] = []
    headers = [("host", "api.example.com"), ("content-type", "text/plain"), ("content-length", "500000")]
    with forms.door("wsgi", [*PATTERNS[:3], path("open", first_bytes)]) as door:
        environ = wsgi.environ_of("POST", "/open", headers, b"")
        environ["wsgi.input"] = Counted(b"x" * 500_000)
        status, _, content = wsgi.call(door.app, environ)
    assert (status, content, read) == (200, b'{"read": "xxxxx"}', [5])


def test_a_middleware_before_the_fence_that_reads_the_body_is_a_fault(kind: str, forms: Tried) -> None:
    with forms.door(kind, PATTERNS, MIDDLEWARE=[f"{HERE}.ReadsForm", FENCE]) as door:
        answer = door.send("POST", "/form", MULTIPART, [("content-type", BOUNDARY)])
    assert (answer.status, answer.code, forms.spent()) == (500, "request.unsealed", 0)


def test_what_drf_would_read_in_another_charset_is_refused(kind: str, forms: Tried) -> None:
    body = b'{"amount": 1, "+AGEAbQBvAHUAbgB0-": 5000}'
    with forms.door(kind, DRFS) as door:
        answer = door.send("POST", "/json", body, [("content-type", "application/json; charset=utf-7")])
        assert (answer.status, answer.code) == (415, "request.media_type")
        answer = door.send("POST", "/json", URLENCODED, [("content-type", "application/x-www-form-urlencoded")])
        assert (answer.status, answer.code) == (415, "request.media_type")


def test_what_django_would_read_after_the_end_of_a_form_is_refused(kind: str, forms: Tried) -> None:
    more = b'--b\r\nContent-Disposition: form-data; name="amount"\r\n\r\n5000\r\n--b--\r\n'
    with forms.door(kind, PATTERNS) as door:
        answer = door.send("POST", "/form", MULTIPART + more, [("content-type", BOUNDARY)])
        assert answer.status == 400
        answer = door.send(
            "POST", "/form?amount=5000", URLENCODED, [("content-type", "application/x-www-form-urlencoded")]
        )
        assert (answer.status, answer.code) == (400, "request.ambiguous")
    assert forms.spent() == 0
