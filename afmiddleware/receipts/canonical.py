"""The exact bytes of a receipt: a subset of JSON Canonicalization (RFC 8785).

Keys are made of a-z, 0-9 and the underscore; values are strings, booleans, integers within +-(2^53 - 1), arrays and
objects, at most eight deep. There are no floats and no nulls, so any RFC 8785 tool makes the same bytes of the same
values.
"""

from __future__ import annotations

from functools import lru_cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.receipt import Body, Value

_DEPTH: Final = 8
_KEY_BYTES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789_"
_NESTING: Final = frozenset({dict, list})


def _schema() -> Any:
    """The type of a body. Its depth is bounded, so that no body can exhaust the stack."""
    scalar: Any = str | bool | Bounded
    value = scalar
    for _ in range(_DEPTH):
        value = scalar | GenericAlias(list, value) | GenericAlias(dict, (str, value))
    return GenericAlias(dict, (str, value))


_encode = msgspec.json.Encoder(order="sorted").encode
_encode_body = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_schema()).decode


def encode(value: Body | Mapping[str, Value]) -> bytes:
    """The canonical bytes of a body. Raises `ReceiptError` for text that has no UTF-8 form (a lone surrogate).

    What the type of `value` rules out is not looked for here: `parse` finds it.
    """
    try:
        # A typed body has its members in order already.
        return _encode_body(value) if isinstance(value, msgspec.Struct) else _encode(value)
    except (UnicodeEncodeError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        msg = "a value of the receipt has no canonical form"
        raise ReceiptError(msg) from error


def parse(data: bytes) -> dict[str, Any]:
    """Read a body. Raises `ReceiptError` for anything but an object of the values a body may hold."""
    try:
        body: dict[str, Any] = _decode(data)
    except (ValueError, RecursionError) as error:
        msg = f"not a receipt body: {error}"
        raise ReceiptError(msg) from error
    _check_keys(body)
    return body


def strict_parse(data: bytes) -> dict[str, Any]:
    """Read canonical bytes, and only those. Raises `ReceiptError` saying what is not canonical.

    A key that stands twice, a needless escape, space, `-0` and another order of the keys all make other bytes.
    """
    body = parse(data)
    if encode(body) != data:
        msg = "the bytes are not canonical"
        raise ReceiptError(msg)
    return body


def _check_keys(body: dict[str, Any]) -> None:
    inside: list[Any] = [body]
    # The list grows while it is walked: by every object and array that is found.
    for one in inside:
        values = one
        if type(one) is dict:
            values = one.values()
            if not is_plain(tuple(one)):
                msg = "not a receipt body: a key is not made of a-z, 0-9 and the underscore"
                raise ReceiptError(msg)
        inside += [value for value in values if type(value) in _NESTING]


@lru_cache(maxsize=1024)
def is_plain(names: tuple[str, ...]) -> bool:
    """Whether names are made as they must be. The same few sets of names come again and again."""
    return not "".join(names).encode().translate(None, _KEY_BYTES) and "" not in names
