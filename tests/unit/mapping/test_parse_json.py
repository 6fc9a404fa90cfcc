"""Bodies that JSON readers disagree about are refused, all others are read exactly."""

from __future__ import annotations

import json

import pytest

from afmiddleware.errors import MappingError
from afmiddleware.mapping.body import check_cap, check_media, parse_json
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.number import Number

READ = {
    "object": (b'{"amount": 5000}', {"amount": 5000}),
    "list": (b"[1, 2]", [1, 2]),
    "text": (b'"x"', "x"),
    "null": (b"null", None),
    "literals": (b"[true, false]", [True, False]),
    "spaces around": (b" \t\r\n{} \n", {}),
    "UTF-8": ('{"é": "ü"}'.encode(), {"é": "ü"}),
    "escapes": (rb'"\u00e9\n\""', 'é\n"'),
    "surrogate pair": (rb'"\ud83d\ude00"', "😀"),
    "escaped backslash before u": (rb'"\\ud800"', "\\ud800"),
    "2^64 stays exact": (b"18446744073709551616", 2**64),
    "4000 digits": (b"1" * 4000, int("1" * 4000)),
    "same key at different depths": (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
    "same key in different objects": (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    "keys that differ in case": (b'{"a": 1, "A": 2}', {"a": 1, "A": 2}),
    "64 levels": (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
    "64 levels, with siblings": (
        b"[[]," * 63 + b"[" + b"]" * 64,
        json.loads(b"[[]," * 63 + b"[" + b"]" * 64),
    ),
    "many lists, not deep": (b"[" + b",".join([b"[]"] * 200) + b"]", [[]] * 200),
    "brackets in texts": (b'["' + b"[" * 200 + rb'\"{{"]', ["[" * 200 + '"{{']),
}

REFUSED = {
    "duplicate key": b'{"amount": 1, "amount": 5000}',
    "duplicate key, escaped": rb'{"amount": 1, "\u0061mount": 5000}',
    "duplicate key, deep": b'{"a": [{"b": {"c": 1, "c": 1}}]}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16 without mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32-be"),
    "latin-1": '"é"'.encode("latin-1"),
    "overlong UTF-8": b'"\xc0\xaf"',
    "encoded surrogate": b'"\xed\xa0\x80"',
    "EBCDIC": '{"amount": 5000}'.encode("cp037"),
    "NaN": b'{"amount": NaN}',
    "Infinity": b"Infinity",
    "minus Infinity": b"[-Infinity]",
    "lone high surrogate": rb'"\ud800"',
    "lone low surrogate": rb'{"a": ["\uDC00"]}',
    "lone surrogate in a key": rb'{"\ud800": 1}',
    "swapped surrogates": rb'"\ude00\ud83d"',
    "4001 digits": b"1" * 4001,
    "5000 digits, negative": b"-" + b"9" * 5000,
    "raw control character": b'"a\x01b"',
    "raw newline in a text": b'"a\nb"',
    "trailing data": b'{"amount": 1} {"amount": 5000}',
    "trailing comma": b"[1,]",
    "single quotes": b"{'a': 1}",
    "comment": b"{} // amount",
    "unquoted key": b"{a: 1}",
    "leading zero": b"01",
    "plus sign": b"+1",
    "hexadecimal": b"0x10",
    "underscore": b"1_000",
    "full-width digits": "５".encode(),
    "bare point": b"1.",
    "not closed": b'{"a": 1',
    "empty": b"",
    "spaces alone": b"  ",
    "no-break space": b"\xc2\xa0{}",
    "form feed": b"\x0c{}",
    "65 levels": b"[" * 65 + b"]" * 65,
    "65 levels, with siblings": b"[[]," * 64 + b"[" + b"]" * 65,
    "65 levels, mixed": b'{"a":[' * 32 + b"[]" + b"]}" * 32,
    "100000 levels": b"[" * 100_000,
    "deep after an unclosed text": b'"\\' + b"[" * 100,
}


@pytest.mark.parametrize(("body", "value"), READ.values(), ids=READ.keys())
def test_plain_json_is_read(body: bytes, value: object) -> None:
    assert parse_json(body) == value


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_json_that_readers_differ_on_is_refused(body: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        parse_json(body)
    assert caught.value.code == "request.ambiguous"


@pytest.mark.parametrize("token", ["5000.0", "5e3", "0.30000000000000001", "1e400", "-0.0", "9007199254740993.0"])
def test_numbers_keep_their_token(token: str) -> None:
    value = parse_json(token.encode())
    assert type(value) is Number
    assert value == token


def test_the_depth_cap_is_exact_and_can_be_set() -> None:
    assert parse_json(b'[{"a": []}]', max_depth=3) == [{"a": []}]
    with pytest.raises(MappingError):
        parse_json(b'[{"a": []}]', max_depth=2)


def head(*pairs: tuple[bytes, bytes]) -> HttpFacts:
    return HttpFacts(method="POST", path="/", headers=pairs)


MEDIA_READ = [
    b"application/json",
    b"application/json; charset=utf-8",
    b"application/json;charset=UTF-8",
    b'application/json; charset="utf-8"',
    b"Application/JSON",
    b"application/vnd.api+json",
    b"application/merge-patch+json; charset=utf-8",
    b"application/json; odata.metadata=minimal",
]
MEDIA_REFUSED = [
    b"",
    b"text/plain",
    b"text/json",
    b"application/jsonp",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=b",
    b"application/json; charset=utf-7",
    b"application/json; charset=cp037",
    b"application/json; charset=unicode_escape",
    b"application/json; charset=latin-1",
    b"application/json; charset=utf-8; charset=utf-7",
    b"application/json; a=1; A=2",
    b"application/json; charset*=utf-8''utf-7",
    b"application/json; charset*0=utf-7",
    b'application/json; x="; charset=utf-7"',
    b"application/json, text/plain",
    b"application/json; charset",
    b"application/json;",
    b"application/+json",
    b"json",
]


@pytest.mark.parametrize("media", MEDIA_READ)
def test_json_labels_are_taken(media: bytes) -> None:
    check_media(head((b"content-type", media), (b"content-length", b"2")), b"{}")


@pytest.mark.parametrize("media", MEDIA_REFUSED)
def test_other_labels_are_refused(media: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        check_media(head((b"content-type", media)), b"{}")
    assert caught.value.code == "request.media_type"


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b""])
def test_an_encoded_body_is_refused(coding: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        check_media(head((b"content-type", b"application/json"), (b"content-encoding", coding)), b"{}")
    assert caught.value.code == "request.media_type"


def test_no_label_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        check_media(head(), b"{}")
    assert caught.value.code == "request.media_type"


@pytest.mark.parametrize("length", [b"1", b"3", b"40", b"+2", b"00000000000000000000002"])
def test_a_truncated_body_is_refused(length: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        check_media(head((b"content-type", b"application/json"), (b"content-length", length)), b"{}")
    assert caught.value.code == "request.ambiguous"


def test_an_announced_body_over_the_cap_is_refused() -> None:
    check_cap(head((b"content-length", b"10")), 10)
    check_cap(head(), 10)
    with pytest.raises(MappingError) as caught:
        check_cap(head((b"content-length", b"11")), 10)
    assert caught.value.code == "request.too_large"
