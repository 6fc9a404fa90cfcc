"""Form bodies: what every framework reads alike is read, everything else is refused."""

from __future__ import annotations

import pytest

from afmiddleware.errors import MappingError
from afmiddleware.mapping.forms import parse_form
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.http import HttpFacts

BOTH = frozenset({"urlencoded", "multipart"})
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def facts(media: str, query: bytes = b"", *more: tuple[bytes, bytes]) -> HttpFacts:
    return HttpFacts(method="POST", path="/", query=query, headers=((b"content-type", media.encode()), *more))


def parts(*fields: str, end: str = "--b--\r\n") -> bytes:
    return "".join(f"--b\r\n{field}\r\n" for field in fields).encode() + end.encode()


AMOUNT = 'Content-Disposition: form-data; name="amount"\r\n\r\n5'
OTHER = 'Content-Disposition: form-data; name="note"\r\n\r\na\r\nb--b\n-'
FILE = 'Content-Disposition: form-data; name="doc"; filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\n%PDF\x00'


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"amount=5", (("amount", "5"),)),
        (b"amount=5&to=a+b%26%C3%A9", (("amount", "5"), ("to", "a b&é"))),
        (b"amount=5&&=x&flag", (("amount", "5"), ("", "x"), ("flag", ""))),
    ],
)
def test_urlencoded(body: bytes, fields: object) -> None:
    assert parse_form(facts(URLENCODED), body, BOTH) == fields
    assert parse_form(facts(f"{URLENCODED}; charset=utf-8"), body, frozenset({"urlencoded"})) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"amount=5;amount=6",
        b"amount=%",
        b"amount=%zz",
        b"amount=%ff",
        b"amount=\xff",
        b"_method=DELETE",
        b"%5Fmethod=x",
        b"&".join(b"a=%d" % n for n in range(1001)),
        b"&" * 2000,
    ],
)
def test_urlencoded_that_is_read_in_two_ways(body: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        parse_form(facts(URLENCODED), body, BOTH)
    assert caught.value.code == "request.ambiguous"


def test_multipart() -> None:
    body = parts(AMOUNT, FILE, 'Content-Disposition: form-data; name="é"\r\nContent-Type: text/plain\r\n\r\n')
    assert parse_form(facts(MULTIPART), body, BOTH) == (("amount", "5"), ("doc", None), ("é", ""))
    assert parse_form(facts('multipart/form-data; boundary="b"'), parts(AMOUNT, end="--b--"), BOTH) == (
        ("amount", "5"),
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(parts(AMOUNT) + parts(AMOUNT), id="parts after the end"),
        pytest.param(parts(AMOUNT) + b"x", id="something after the end"),
        pytest.param(b"x\r\n" + parts(AMOUNT), id="something before the beginning"),
        pytest.param(b"\r\n" + parts(AMOUNT), id="an empty line before the beginning"),
        pytest.param(parts(AMOUNT, end=""), id="no end"),
        pytest.param(parts(AMOUNT, end="--b-"), id="half an end"),
        pytest.param(parts(AMOUNT).replace(b"\r\n", b"\n"), id="line feeds alone"),
        pytest.param(parts(AMOUNT).replace(b'"\r\n', b'"\n'), id="a line feed in the head"),
        pytest.param(parts(AMOUNT).replace(b"--b\r\n", b"--b \r\n", 1), id="a space after the boundary"),
        pytest.param(parts(AMOUNT, OTHER), id="a boundary after a line feed alone"),
        pytest.param(parts(AMOUNT.replace('"amount"', "amount")), id="a name without quotes"),
        pytest.param(parts(AMOUNT.replace('"amount"', '"am\\ount"')), id="a backslash in the name"),
        pytest.param(parts(AMOUNT.replace("name=", "name*=utf-8''x; name=")), id="an extended name"),
        pytest.param(parts(AMOUNT.replace('"amount"', '"amount"; name="x"')), id="two names"),
        pytest.param(parts("X-A: 1\r\n" + AMOUNT), id="another header"),
        pytest.param(parts(AMOUNT.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n")), id="encoded"),
        pytest.param(
            parts(AMOUNT.replace("\r\n\r\n", '\r\nContent-Disposition: form-data; name="x"\r\n\r\n')), id="twice"
        ),
        pytest.param(
            parts(AMOUNT.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n")),
            id="another charset",
        ),
        pytest.param(parts(AMOUNT.replace("form-data", "attachment")), id="another disposition"),
        pytest.param(parts(AMOUNT).replace(b"\r\n\r\n5", b"\r\n\r\n\xff"), id="not UTF-8"),
        pytest.param(parts('Content-Disposition: form-data; name="_method"\r\n\r\nDELETE'), id="a method"),
        pytest.param(parts(*[AMOUNT] * 1001), id="too many"),
    ],
)
def test_multipart_that_is_read_in_two_ways(body: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        parse_form(facts(MULTIPART), body, BOTH)
    assert caught.value.code == "request.ambiguous"


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "text/plain",
        "multipart/mixed; boundary=b",
        "multipart/form-data",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=b; charset=utf-7",
        f"{URLENCODED}; charset=utf-7",
        f"{URLENCODED}, application/json",
    ],
)
def test_another_label(media: str) -> None:
    with pytest.raises(MappingError) as caught:
        parse_form(facts(media), b"amount=5", BOTH)
    assert caught.value.code == "request.media_type"


def test_multipart_is_only_read_where_it_is_listed() -> None:
    with pytest.raises(MappingError) as caught:
        parse_form(facts(MULTIPART), parts(AMOUNT), frozenset({"urlencoded"}))
    assert caught.value.code == "request.media_type"
    with pytest.raises(MappingError) as caught:
        parse_form(facts(URLENCODED), b"amount=5", frozenset({"multipart"}))
    assert caught.value.code == "request.media_type"


def test_an_encoded_or_cut_off_form_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        parse_form(facts(URLENCODED, b"", (b"content-encoding", b"gzip")), b"amount=5", BOTH)
    assert caught.value.code == "request.media_type"
    with pytest.raises(MappingError) as caught:
        parse_form(facts(URLENCODED, b"", (b"content-length", b"9")), b"amount=5", BOTH)
    assert caught.value.code == "request.ambiguous"


def test_a_name_stands_once_in_query_and_form_together() -> None:
    form = (("amount", "5"), ("tag", "a"), ("tag", "b"), ("doc", None), ("doc2", "x"), ("doc2", None))
    view = RequestView(facts(URLENCODED, b"page=1&amount=9&to=x"), {}, form=form)
    assert view.field("missing") is None
    assert view.query("page") == "1"
    assert view.field("doc") is None
    for read, name in ((view.field, "tag"), (view.field, "amount"), (view.query, "amount"), (view.field, "doc2")):
        with pytest.raises(MappingError) as caught:
            read(name)
        assert caught.value.code == "request.ambiguous"
    assert RequestView(facts(URLENCODED), {}, form=form).field("amount") == "5"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"plan=basic", "basic"),
        (b"a=1; plan=basic; planet=x", "basic"),
        (b"xplan=1", None),
        (b"plan=a=b", "a=b"),
        (b"plan=", ""),
    ],
)
def test_cookies(header: bytes, value: str | None) -> None:
    assert RequestView(facts("x", b"", (b"cookie", header)), {}).cookie("plan") == value


@pytest.mark.parametrize(
    "header",
    [b"plan=a; plan=b", b'plan="a"', b"plan=a\\b", b"plan=a,b", b"plan", b"plan =a", b"plan=\xc3\xa9", b"plan=a b"],
)
def test_cookies_that_are_read_in_two_ways(header: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        RequestView(facts("x", b"", (b"cookie", header)), {}).cookie("plan")
    assert caught.value.code == "request.ambiguous"


def test_two_cookie_headers_are_refused() -> None:
    with pytest.raises(MappingError):
        RequestView(facts("x", b"", (b"cookie", b"plan=a"), (b"cookie", b"x=b")), {}).cookie("plan")
