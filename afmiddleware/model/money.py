"""Money: an exact integer of minor units with its currency."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from afmiddleware.errors import GrammarError, MoneyError
from afmiddleware.grammar.amounts import MAX_MINOR, to_major, to_minor
from afmiddleware.grammar.currencies import ISO_4217

if TYPE_CHECKING:
    from collections.abc import Mapping


class Money(msgspec.Struct, frozen=True, gc=False):
    """An exact, non-negative amount.

    `minor` counts minor units (cents), `currency` is an ISO 4217 code or the name of a configured asset, `exponent`
    is the number of digits of its minor unit. Raises `MoneyError` for anything but a whole number from 0 to 2^53 - 1:
    what is taken from a budget may never give to it.
    """

    minor: int
    currency: str
    exponent: int

    def __post_init__(self) -> None:
        if type(self.minor) is not int or not 0 <= self.minor <= MAX_MINOR:
            msg = f"{self.minor!r:.40} is not a whole number of minor units from 0 to {MAX_MINOR}"
            raise MoneyError(msg)

    @classmethod
    def parse(cls, text: str, assets: Mapping[str, int] = MappingProxyType({})) -> Money:
        """Read `12.50 USD`. `assets` adds currencies beyond ISO 4217 as name to exponent. Raises `MoneyError`."""
        number, _, currency = text.partition(" ")
        if not currency:
            msg = f"{text[:60]!r} names no currency; write one after it, such as '{number[:40] or 5} USD'"
            raise MoneyError(msg)
        try:
            return cls.of(number, currency, assets)
        except MoneyError as error:
            msg = f"{text[:60]!r} is not money such as '12.50 USD': {error}"
            raise MoneyError(msg) from None

    @classmethod
    def of(cls, major: str, currency: str, assets: Mapping[str, int] = MappingProxyType({})) -> Money:
        """Make money from a major-unit amount and a currency code. Raises `MoneyError`."""
        exponent = exponent_of(currency, assets)
        try:
            return cls(to_minor(major, exponent), currency, exponent)
        except GrammarError as error:
            raise MoneyError(str(error)) from None

    @property
    def major(self) -> str:
        """The amount in major units, as text: `12.50`."""
        return to_major(self.minor, self.exponent)

    def __str__(self) -> str:
        return f"{self.major} {self.currency}"


def exponent_of(currency: str, assets: Mapping[str, int] = MappingProxyType({})) -> int:
    """The number of minor-unit digits of a currency. Raises `MoneyError` for an unknown one."""
    exponent = assets.get(currency)
    if exponent is None:
        exponent = ISO_4217.get(currency)
    if exponent is None:
        msg = f"unknown currency {currency[:20]!r}: use an ISO 4217 code or declare it under assets"
        raise MoneyError(msg)
    return exponent
