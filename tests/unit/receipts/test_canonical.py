"""One body has one form, and only that form is read back."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import MAX_INTEGER, Body
from afmiddleware.receipts.canonical import encode, parse, strict_parse


@pytest.mark.parametrize(
    ("body", "data"),
    [
        pytest.param({}, b"{}", id="empty"),
        pytest.param({"b": 1, "a": 2}, b'{"a":2,"b":1}', id="keys are sorted"),
        pytest.param({"a_": 1, "a0": 2, "a": 3}, b'{"a":3,"a0":2,"a_":1}', id="by their bytes"),
        pytest.param({"c": {"z": "1", "a": "2"}}, b'{"c":{"a":"2","z":"1"}}', id="inside too"),
        pytest.param({"a": [True, False, 0, -1]}, b'{"a":[true,false,0,-1]}', id="array"),
        pytest.param({"a": MAX_INTEGER}, b'{"a":9007199254740991}', id="largest"),
        pytest.param({"a": -MAX_INTEGER}, b'{"a":-9007199254740991}', id="smallest"),
        pytest.param({"a": '"\\/'}, rb'{"a":"\"\\/"}', id="quote, backslash, slash"),
        pytest.param({"a": "\b\t\n\f\r"}, rb'{"a":"\b\t\n\f\r"}', id="short escapes"),
        pytest.param({"a": "\x00\x0b\x1f"}, b'{"a":"\\u0000\\u000b\\u001f"}', id="control characters"),
        pytest.param({"a": "\x7f\x80"}, b'{"a":"\x7f\xc2\x80"}', id="delete is none of them"),
        pytest.param({"a": "\u2028\u2029"}, b'{"a":"\xe2\x80\xa8\xe2\x80\xa9"}', id="line separators"),
        pytest.param({"a": "\U0001f600"}, b'{"a":"\xf0\x9f\x98\x80"}', id="beyond the basic plane"),
        pytest.param({"a": "\u00e9e\u0301"}, b'{"a":"\xc3\xa9e\xcc\x81"}', id="nothing is normalised"),
        pytest.param({"a": "\ufeff\ufffe\uffff"}, b'{"a":"\xef\xbb\xbf\xef\xbf\xbe\xef\xbf\xbf"}', id="noncharacters"),
    ],
)
def test_a_body_has_these_bytes(body, data) -> None:
    assert encode(body) == data == rfc8785.dumps(body)
    assert strict_parse(data) == body


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\x00\x1f\x7f"\\\u2028\U0001f600\ufb33'))
KEYS = st.text("abcxyz019_", min_size=1, max_size=12)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_the_bytes_are_those_of_rfc_8785(body) -> None:
    data = encode(body)
    assert data == rfc8785.dumps(body)
    read = strict_parse(data)
    assert read == body
    assert encode(read) == data


@pytest.mark.parametrize("text", ["\ud800", "a\ud83d", "\ude00\ud83d"])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"b": x}], ids=["text", "array", "object"])
def test_a_lone_surrogate_is_an_error_of_ours(text, wrap) -> None:
    with pytest.raises(ReceiptError):
        encode({"a": wrap(text)})


def test_what_cannot_be_encoded_is_an_error_of_ours() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    hopeless: list[Any] = [object(), deep]
    for value in hopeless:
        with pytest.raises(ReceiptError):
            encode({"a": value})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"a":1', id="cut"),
        pytest.param(b'{"a":1.0}', id="float without a fraction"),
        pytest.param(b'{"a":[{"b":0.5}]}', id="float inside"),
        pytest.param(b'{"a":1e2}', id="exponent"),
        pytest.param(b'{"a":1E400}', id="infinite"),
        pytest.param(b'{"a":{"b":null}}', id="null inside"),
        pytest.param(b'{"a":Infinity}', id="infinity"),
        pytest.param(b'{"a":9007199254740992}', id="too large"),
        pytest.param(b'{"a":-9007199254740992}', id="too small"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="thousands of digits"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate in the bytes"),
        pytest.param(b'{"a":"\\ud800x"}', id="surrogate escaped"),
        pytest.param(b'{"a":"\xc0\x80"}', id="overlong"),
        pytest.param(b'{"a":"\n"}', id="bare control character"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte order mark"),
        pytest.param(b'"a"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"A":1}', id="upper-case key"),
        pytest.param(b'{"":1}', id="empty key"),
        pytest.param('{"\u00e9":1}'.encode(), id="key beyond ASCII"),
        pytest.param(b'{"a":[{"b c":1}]}', id="key inside an array"),
        pytest.param(b'{"a":{"b":{"c-d":1}}}', id="key far inside"),
        pytest.param(b'{"a":' + b"[" * 9 + b"]" * 9 + b"}", id="nine deep"),
        pytest.param(b'{"a":' + b"[" * 990 + b"]" * 990 + b"}", id="near the end of the stack"),
        pytest.param(b'{"a":' * 200_000, id="beyond the end of the stack"),
    ],
)
def test_what_is_no_body_is_refused(data) -> None:
    with pytest.raises(ReceiptError, match=r"^not a receipt body: "):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1,"a":1}', id="a key twice"),
        pytest.param(b'{"a":1,"b":{"c":1,"c":2}}', id="a key twice inside"),
        pytest.param(b'{"b":1,"a":1}', id="order"),
        pytest.param(b'{"a":-0}', id="negative zero"),
        pytest.param(b'{"a":1} ', id="space behind"),
        pytest.param(b'{"a":1,"b": 2}', id="space inside"),
        pytest.param(rb'{"a":"\/"}', id="slash escaped"),
        pytest.param(rb'{"a":"\u0041"}', id="letter escaped"),
        pytest.param(rb'{"a":"\u000a"}', id="long escape"),
        pytest.param(rb'{"a":"\u001F"}', id="upper-case escape"),
        pytest.param(rb'{"a":"\ud83d\ude00"}', id="pair escaped"),
        pytest.param(rb'{"\u0061":1}', id="key escaped"),
    ],
)
def test_another_form_of_a_body_is_refused(data) -> None:
    parse(data)
    with pytest.raises(ReceiptError, match="not canonical"):
        strict_parse(data)


@given(st.binary(max_size=40) | st.text(max_size=30).map(lambda text: f'{{"a":"{text}"}}'.encode("utf-8", "replace")))
def test_whatever_is_read_is_canonical(data) -> None:
    try:
        body = strict_parse(data)
    except ReceiptError:
        return
    assert rfc8785.dumps(body) == data


@pytest.mark.parametrize("kind", get_args(Body))
def test_a_typed_body_has_its_members_in_canonical_order(kind: type[msgspec.Struct]) -> None:
    """They are encoded as they stand, so one out of order would make bytes that verify as not canonical."""
    assert list(kind.__struct_fields__) == sorted(kind.__struct_fields__)
    assert kind.__struct_encode_fields__ == kind.__struct_fields__
