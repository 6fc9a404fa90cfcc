"""Requests that two readers could read in two ways are refused; all others pass."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from afmiddleware.mapping.screen import screen
from afmiddleware.model.http import HttpFacts

HOST = (b"host", b"api.example.com")


def facts(raw: bytes | None = b"/v1/payments", /, **changes: Any) -> HttpFacts:
    """A clean request with the path as sent and `changes`."""
    values: dict[str, Any] = {
        "method": "POST",
        "path": "/" if raw is None else unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "headers": (HOST, (b"content-type", b"application/json"), (b"content-length", b"16")),
    }
    return HttpFacts(**(values | changes))


def headers(*more: tuple[bytes, bytes]) -> HttpFacts:
    return facts(headers=(HOST, *more))


CLEAN = {
    "plain": facts(),
    "root": facts(b"/"),
    "trailing slash": facts(b"/v1/payments/"),
    "all unreserved characters": facts(b"/v1/a-b_c~d.e/!$&'()*+,;=:@"),
    "well-known": facts(b"/.well-known/agent-fence/keys"),
    "three dots": facts(b"/v1/.../x"),
    "dots inside a name": facts(b"/files/a..b.tar.gz"),
    "encoded letter": facts(b"/%70ayments"),
    "encoded space": facts(b"/orders/a%20b"),
    "encoded percent": facts(b"/v1/orders/7%252F8"),
    "UTF-8": facts(b"/caf%C3%A9"),
    "NFD stays": facts(b"/cafe%CC%81"),
    "encoded replacement character": facts(b"/x%EF%BF%BDy"),
    "encoded question mark": facts(b"/what%3F/x", path="/what"),
    "braces and pipes": facts(b"/v1/{a}|b"),
    "matrix parameter": facts(b"/v1/orders;v=1/7"),
    "root path added by the server": facts(b"/v1/payments", path="/api/v1/payments"),
    "raw path not kept": facts(None, path="/v1/payments"),
    "raw path not kept, percent left": facts(None, path="/v1/orders/%FF"),
    "raw path not kept, accents": facts(None, path="/café/7"),
    "query": facts(query=b"amount=1&to=acme%20inc&q=a+b"),
    "query with a sloppy percent": facts(query=b"q=100%"),
    "query with a method word": facts(query=b"method=card&x_method=1"),
    "no headers": facts(headers=()),
    "host with port": facts(headers=((b"host", b"localhost:8000"),)),
    "host IPv6": facts(headers=((b"host", b"[::1]:8000"),)),
    "host with underscore": facts(headers=((b"host", b"shop_api:80"),)),
    "chunked": headers((b"transfer-encoding", b"Chunked")),
    "several cookies and accepts": headers(
        (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"x"), (b"accept", b"y")
    ),
    "forwarded twice": headers((b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8")),
    "tab and latin-1 in a value": headers((b"user-agent", b"a\tb\xe9")),
    "unusual method": facts(method="PROPFIND"),
    "every common method": facts(method="OPTIONS"),
    "authorization once": headers((b"authorization", b"Bearer x")),
}

AMBIGUOUS = {
    "encoded newline": facts(b"/v1/payments%0A"),
    "encoded tab": facts(b"/v1/orders/7%098"),
    "encoded NUL": facts(b"/v1/orders/7%00"),
    "encoded carriage return": facts(b"/v1/orders/7%0d"),
    "encoded DEL": facts(b"/v1/orders/7%7F"),
    "encoded next-line": facts(b"/v1/orders/7%C2%85"),
    "raw control": facts(b"/v1/orders/7\x01"),
    "raw NUL": facts(b"/v1/orders/7\x00"),
    "raw space": facts(b"/v1/orders/7 8"),
    "raw UTF-8": facts("/café".encode(), path="/café"),
    "encoded slash": facts(b"/v1%2Fpayments"),
    "encoded slash lower": facts(b"/v1%2fpayments"),
    "encoded backslash": facts(b"/v1%5Cpayments"),
    "raw backslash": facts(b"/v1\\payments"),
    "bad triplet": facts(b"/v1/%zz"),
    "short triplet": facts(b"/v1/x%4"),
    "lone percent": facts(b"/v1/100%"),
    "invalid UTF-8": facts(b"/v1/orders/%FF"),
    "overlong UTF-8": facts(b"/v1/%C0%AF"),
    "encoded surrogate": facts(b"/v1/%ED%A0%80"),
    "dot segment": facts(b"/public/../v1/payments"),
    "single dot": facts(b"/public/./x"),
    "dot segment at the end": facts(b"/public/.."),
    "encoded dot segment": facts(b"/public/%2e%2E/v1/payments"),
    "half encoded dot segment": facts(b"/public/.%2e/v1/payments"),
    "dot segment with parameters": facts(b"/public/..;x=1/v1"),
    "leading double slash": facts(b"//v1/payments"),
    "inner double slash": facts(b"/admin//payout"),
    "final double slash": facts(b"/v1/payments//"),
    "raw hash": facts(b"/v1/payments#/public/ping"),
    "raw question mark": facts(b"/v1/payments?x"),
    "absolute form": facts(b"http://evil/v1/payments"),
    "asterisk": facts(b"*", path="*", method="OPTIONS"),
    "empty target": facts(b"", path=""),
    "no leading slash": facts(b"v1/payments"),
    "decoded only: control": facts(None, path="/v1/payments\n"),
    "decoded only: dot segment": facts(None, path="/public/../v1"),
    "decoded only: double slash": facts(None, path="//v1/payments"),
    "decoded only: backslash": facts(None, path="/v1\\payments"),
    "decoded only: replacement character": facts(None, path="/v1/orders/\ufffd"),
    "decoded only: surrogate": facts(None, path="/v1/orders/\udcff"),
    "decoded only: not a path": facts(None, path="http://evil/"),
    "rewritten path hides behind a clean raw path": facts(b"/v1/payments", path="/v1/../payments"),
    "hash in the query": facts(query=b"amount=1#&amount=5000"),
    "control in the query": facts(query=b"amount=1\n5"),
    "space in the query": facts(query=b"amount=1 5"),
    "method parameter": facts(query=b"a=1&_method=DELETE"),
    "method parameter encoded": facts(query=b"%5Fm%65thod=DELETE"),
    "method parameter without value": facts(query=b"_method"),
    "lower-case method": facts(method="post"),
    "method with a dash": facts(method="M-SEARCH"),
    "method with a newline": facts(method="GET\n"),
    "empty method": facts(method=""),
    "full-width method": facts(method="ＧＥＴ"),
    "X-HTTP-Method-Override": headers((b"x-http-method-override", b"DELETE")),
    "X-HTTP-Method": headers((b"x-http-method", b"DELETE")),
    "X-Method-Override": headers((b"x-method-override", b"DELETE")),
    "underscore twin": headers((b"x_forwarded_for", b"1.2.3.4")),
    "SCRIPT_NAME": headers((b"script_name", b"/public/ping")),
    "Script-Name": headers((b"script-name", b"/public/ping")),
    "PATH_INFO": headers((b"path_info", b"/public/ping")),
    "Path-Info": headers((b"path-info", b"/public/ping")),
    "upper-case name": headers((b"X-Method-Override", b"DELETE")),
    "name with a space": headers((b"content-length ", b"1")),
    "name with a colon": headers((b"a:b", b"1")),
    "two hosts": headers((b"host", b"evil")),
    "two equal hosts": headers(HOST),
    "empty host": facts(headers=((b"host", b""),)),
    "host with a path": facts(headers=((b"host", b"api.example/public/ping?"),)),
    "host with user": facts(headers=((b"host", b"x@y"),)),
    "host with a bad port": facts(headers=((b"host", b"api:80a"),)),
    "host with a newline": facts(headers=((b"host", b"api\n"),)),
    "two hosts joined": facts(headers=((b"host", b"a, b"),)),
    "length and coding": headers((b"content-length", b"5"), (b"transfer-encoding", b"chunked")),
    "two lengths": headers((b"content-length", b"5"), (b"content-length", b"5")),
    "lengths joined": headers((b"content-length", b"5, 5")),
    "signed length": headers((b"content-length", b"+5")),
    "underscored length": headers((b"content-length", b"1_0")),
    "length too long": headers((b"content-length", b"9" * 19)),
    "coding not chunked": headers((b"transfer-encoding", b"gzip, chunked")),
    "two codings": headers((b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")),
    "two content types": headers((b"content-type", b"application/json"), (b"content-type", b"text/plain")),
    "two authorizations": headers((b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")),
    "folded value": headers((b"x-note", b"a\r\n b")),
    "newline in a value": headers((b"x-note", b"a\nb")),
    "NUL in a value": headers((b"x-note", b"a\0b")),
    "NUL in a repeated value": headers((b"x-note", b"a\0b"), (b"x-note", b"c")),
}


@pytest.mark.parametrize("request_head", CLEAN.values(), ids=CLEAN.keys())
def test_clear_requests_pass(request_head: HttpFacts) -> None:
    assert screen(request_head) is None


@pytest.mark.parametrize("request_head", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_requests_are_refused(request_head: HttpFacts) -> None:
    refusal = screen(request_head)
    assert refusal is not None
    assert refusal.code == "request.ambiguous"
    assert refusal.detail


def test_the_reason_never_quotes_what_was_sent() -> None:
    refusal = screen(headers((b"x-http-method-override", b"s3cret"), (b"x-api-key", b"s3cret\n")))
    assert refusal is not None
    assert "s3cret" not in refusal.detail
