"""What the fence sees of a WSGI environment, and what it leaves in it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from afmiddleware.errors import ClientGoneError, MappingError
from afmiddleware.pep.environ import Body, facts_of


def environ(**more: str) -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "QUERY_STRING": "a=1", "REMOTE_ADDR": "192.0.2.1", **more}


def test_the_head_of_a_request() -> None:
    facts = facts_of(
        environ(
            REQUEST_METHOD="POST", SCRIPT_NAME="/app", RAW_URI="/app/x?a=1", HTTP_X_API_KEY="k", HTTP_HOST="h",
            CONTENT_TYPE="application/json", CONTENT_LENGTH="3",
        )
    )  # fmt: skip
    assert (facts.method, facts.path, facts.raw_path, facts.query) == ("POST", "/app/x", b"/app/x", b"a=1")
    assert (facts.scheme, facts.peer) == ("http", "192.0.2.1")
    assert sorted(facts.headers) == [
        (b"content-length", b"3"),
        (b"content-type", b"application/json"),
        (b"host", b"h"),
        (b"x-api-key", b"k"),
    ]


def test_what_a_server_leaves_out() -> None:
    facts = facts_of({"REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": ""})
    assert (facts.path, facts.raw_path, facts.query, facts.headers, facts.peer) == ("/", None, b"", (), "")


@pytest.mark.parametrize(
    ("more", "raw"),
    [
        ({"REQUEST_URI": "/a%2Fb?c"}, b"/a%2Fb"),
        ({"RAW_URI": "/a%2Fb"}, b"/a%2Fb"),
        ({"REQUEST_URI": "http://other/x"}, b"http://other/x"),
        # A fragment is refused wherever it stands, so it is not cut off with the query.
        ({"REQUEST_URI": "/x#y"}, b"/x#y"),
        ({"REQUEST_URI": "/x?a=1#&a=2"}, b"/x?a=1#&a=2"),
        ({"REQUEST_URI": "/\xc3\xa9"}, b"/\xc3\xa9"),
    ],
)
def test_the_path_as_sent(more: dict[str, str], raw: bytes) -> None:
    assert facts_of(environ(**more)).raw_path == raw


@pytest.mark.parametrize(("path", "seen"), [("/\xc3\xa9", "/é"), ("/\xff", "/\ufffd"), ("/a\\b", "/a\\b")])
def test_the_decoded_path(path: str, seen: str) -> None:
    assert facts_of(environ(PATH_INFO=path)).path == seen


@pytest.mark.parametrize(
    ("key", "value", "lines"),
    [
        ("HTTP_AUTHORIZATION", "Bearer a,Bearer b", 2),
        ("HTTP_AUTHORIZATION", "Bearer a, Bearer b", 2),
        ("HTTP_AUTHORIZATION", "Bearer a,Basic YTpi,Bearer b", 3),
        ("HTTP_AUTHORIZATION", 'Digest username="a", realm="b", nc=1', 1),
        ("HTTP_AUTHORIZATION", "Bearer a", 1),
        ("CONTENT_TYPE", "application/json,text/plain", 2),
        ("CONTENT_TYPE", 'multipart/form-data; boundary="a,b"', 1),
        ("HTTP_ACCEPT", "text/html,application/json", 1),
    ],
)
def test_a_header_that_the_server_joined_counts_as_repeated(key: str, value: str, lines: int) -> None:
    assert len(facts_of(environ(**{key: value})).headers) == lines


def test_a_content_header_under_two_keys_counts_twice_unless_it_is_the_same() -> None:
    same = environ(CONTENT_TYPE="a/b", HTTP_CONTENT_TYPE="a/b", CONTENT_LENGTH="3", HTTP_CONTENT_LENGTH="3")
    assert len(facts_of(same).headers) == 2
    assert len(facts_of({**same, "HTTP_CONTENT_TYPE": "c/d", "HTTP_CONTENT_LENGTH": "4"}).headers) == 4


def body_of(content: bytes, **more: Any) -> Body:
    asked = environ() | {"wsgi.input": io.BytesIO(content)} | more
    return Body(asked, facts_of(asked))


@pytest.mark.parametrize(
    "more",
    [
        {"CONTENT_LENGTH": "4"},
        {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
        {"wsgi.input_terminated": True},
    ],
)
def test_what_was_read_is_put_back(more: dict[str, Any]) -> None:
    body = body_of(b"body", **more)
    assert body.read(4) == b"body"
    left = body.environ
    assert left["wsgi.input"].read() == b"body"
    assert (left["CONTENT_LENGTH"], left["wsgi.input_terminated"]) == ("4", True)
    assert "HTTP_TRANSFER_ENCODING" not in left
    assert body.read(4) == b"body"


def test_what_was_read_is_too_large_for_a_smaller_cap() -> None:
    body = body_of(b"body", CONTENT_LENGTH="4")
    assert body.read(4) == b"body"
    with pytest.raises(MappingError, match="too_large"):
        body.read(3)


def test_bytes_that_no_length_announces_are_no_body() -> None:
    body = body_of(b"body")
    assert body.read(4) == b""
    assert body.environ["wsgi.input"].read() == b""


def test_nothing_is_read_beyond_the_length() -> None:
    body = body_of(b"bodyGET /next", CONTENT_LENGTH="4")
    stream = body.environ["wsgi.input"]
    assert (body.read(10), stream.read()) == (b"body", b"GET /next")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"CONTENT_LENGTH": "5"}, "request.too_large"),
        ({"wsgi.input_terminated": True}, "request.too_large"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "request.ambiguous"),
    ],
)
def test_what_is_refused_is_put_back_too(more: dict[str, Any], code: str) -> None:
    body = body_of(b"bodie", **more)
    with pytest.raises(MappingError) as caught:
        body.read(4)
    assert caught.value.code == code
    assert body.environ["wsgi.input"].read() == b"bodie"


class Leaving(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        del size
        raise ConnectionResetError


@pytest.mark.parametrize("more", [{"CONTENT_LENGTH": "5"}, {"wsgi.input_terminated": True}])
def test_a_client_that_leaves(more: dict[str, Any]) -> None:
    with pytest.raises(ClientGoneError):
        body_of(b"", **more, **{"wsgi.input": Leaving()}).read(10)


def test_a_body_shorter_than_its_length() -> None:
    with pytest.raises(ClientGoneError):
        body_of(b"bod", CONTENT_LENGTH="4").read(10)
