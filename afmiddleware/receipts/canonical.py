"""The exact bytes of a receipt: a subset of JSON Canonicalization (RFC 8785).

Keys are ASCII, values are strings, booleans, integers within +-(2^53 - 1), arrays and objects. There are no floats and
no nulls, so any RFC 8785 tool makes the same bytes of the same values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.receipt import Value

MAX_INTEGER: Final = 2**53 - 1
_encode = msgspec.json.Encoder(order="sorted").encode


def encode(value: Mapping[str, Value]) -> bytes:
    """The canonical bytes of a body. Raises `ReceiptError` for text that has no UTF-8 form (a lone surrogate)."""
    try:
        return _encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError) as error:
        msg = "a value of the receipt has no canonical form"
        raise ReceiptError(msg) from error


def strict_parse(data: bytes) -> dict[str, Any]:
    """Read canonical bytes, and only those. Raises `ReceiptError` saying what is not canonical."""
    try:
        body = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        msg = f"not a receipt body: {error}"
        raise ReceiptError(msg) from error
    if not isinstance(body, dict):
        msg = "not a receipt body: not an object"
        raise ReceiptError(msg)
    _no_nulls(body)
    if encode(body) != data:
        msg = "the bytes are not canonical"
        raise ReceiptError(msg)
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in an object"
        raise ValueError(msg)
    return found


def _no_float(text: str) -> Any:
    msg = f"{text[:20]} is not an integer"
    raise ValueError(msg)


def _integer(text: str) -> int:
    if len(text) > len(str(-MAX_INTEGER)) or text == "-0" or abs(int(text)) > MAX_INTEGER:
        msg = f"{text[:20]} is not an exact integer"
        raise ValueError(msg)
    return int(text)


def _no_nulls(value: Any) -> None:
    if value is None:
        msg = "not a receipt body: it holds a null"
        raise ReceiptError(msg)
    if isinstance(value, dict):
        for member in value.values():
            _no_nulls(member)
    elif isinstance(value, list):
        for member in value:
            _no_nulls(member)
