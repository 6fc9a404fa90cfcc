"""Exact decimal amounts: text to an integer of minor units and back. No floats, no rounding, no signs."""

from __future__ import annotations

import re
from typing import Final

from afmiddleware.errors import GrammarError

MAX_MINOR: Final = 2**53 - 1
"""The largest amount, in minor units: exact in every store, Redis' doubles and JSON readers included."""

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,15}))?", re.ASCII)


def to_minor(text: str, exponent: int) -> int:
    r"""Read a major-unit amount such as `12.5` as minor units (1250 at exponent 2).

    The grammar is `(0|[1-9][0-9]{0,14})(\.[0-9]{1,N})?`, ASCII only, N being the currency's digits. Zero is legal.
    Raises `GrammarError` for a sign, an exponent, spaces, a leading zero, or more digits than the currency has
    (trailing zeros included: they would claim a precision the currency has not).
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        msg = f"{text[:40]!r} is not an amount: digits, then optionally a point and digits"
        raise GrammarError(msg)
    whole, fraction = match.group(1), match.group(2) or ""
    if len(fraction) > exponent:
        msg = f"{text!r} has {len(fraction)} digits after the point; the currency has {exponent}"
        raise GrammarError(msg)
    return _bounded(int(whole + fraction.ljust(exponent, "0")), text)


def minor_from_text(text: str) -> int:
    """Read an amount that is already in minor units: digits only, no leading zero. Raises `GrammarError`."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match.group(2) is not None:
        msg = f"{text[:40]!r} is not a whole number of minor units"
        raise GrammarError(msg)
    return _bounded(int(text), text)


def to_major(minor: int, exponent: int) -> str:
    """Write minor units in major units: 1250 at exponent 2 is `12.50`."""
    if exponent == 0:
        return str(minor)
    if minor < 0:
        return "-" + to_major(-minor, exponent)
    digits = str(minor)
    if len(digits) <= exponent:
        digits = digits.rjust(exponent + 1, "0")
    return f"{digits[:-exponent]}.{digits[-exponent:]}"


def _bounded(minor: int, text: str) -> int:
    if minor > MAX_MINOR:
        msg = f"{text!r} is more than {MAX_MINOR} minor units, the largest exact amount"
        raise GrammarError(msg)
    return minor
