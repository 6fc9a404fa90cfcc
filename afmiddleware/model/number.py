"""Numbers of a request body, kept as they were written."""

from __future__ import annotations


class Number(str):
    """A JSON number with a point or an exponent, as its token: `12.50`. Never a float, never rounded.

    Whole numbers are plain `int`.
    """

    __slots__ = ()
