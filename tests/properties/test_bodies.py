"""Properties of strict parsing: it agrees with the standard reader where that is unambiguous, and never crashes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from afmiddleware.errors import MappingError
from afmiddleware.mapping.body import parse_json
from afmiddleware.mapping.extract import compile_amount
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.number import Number

TEXT = st.text(st.characters(codec="utf-8"))
SCALAR = st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENT = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


def as_doubles(value: Any) -> Any:
    """The document as a reader of doubles sees it."""
    if isinstance(value, Number):
        return float(value)
    if isinstance(value, list):
        return [as_doubles(one) for one in value]
    if isinstance(value, dict):
        return {key: as_doubles(one) for key, one in value.items()}
    return value


@given(DOCUMENT, st.booleans(), st.sampled_from([None, 1]))
def test_what_is_canonical_is_read_like_the_standard_reader(
    document: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert as_doubles(parse_json(text.encode())) == json.loads(text)


NOISE = st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0d8e1.-+tfn \n\ufeff', max_size=40).map(str.encode)


@given(NOISE)
@example(b'"' + b"\\" * 3)
@example(b"[" * 100_000)
@example(b"1" * 5000)
@example(b'{"a":' * 70 + b"1" + b"}" * 70)
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        value = parse_json(data)
    except MappingError:
        return
    # What is read is what any other reader would read.
    assert as_doubles(value) == json.loads(data.decode("utf-8"))
    json.dumps(value, ensure_ascii=False).encode("utf-8")


AMOUNT_TOKEN = st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(AMOUNT_TOKEN, st.sampled_from([0, 2, 3, 6]))
@example("8999999999.740001", 6)
def test_an_amount_that_is_read_is_what_every_handler_holds(token: str, exponent: int) -> None:
    read, _ = compile_amount("body.amount", "major", "ZZZ", {"ZZZ": exponent})
    try:
        document = parse_json(b'{"amount": %s}' % token.encode())
        money = read(RequestView(HttpFacts(method="POST", path="/"), {}, document))
    except MappingError:
        return
    exact = Decimal(money.minor).scaleb(-exponent)
    held = json.loads(token)
    assert exact == Decimal(token) == Decimal(repr(held))
    assert money.minor >= 0
