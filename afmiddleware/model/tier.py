"""How strongly a caller is known."""

from __future__ import annotations

from enum import IntEnum


class Tier(IntEnum):
    """The three identity tiers, ordered: a higher one satisfies a demand for a lower one."""

    ANONYMOUS = 0
    TOKEN = 1
    VERIFIED = 2

    @property
    def label(self) -> str:
        """The lower-case name used in fence.yaml, in receipts and on the wire."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Tier:
        """Read a tier's label. Raises `ValueError` naming the three that exist."""
        try:
            return {tier.label: tier for tier in cls}[text]
        except KeyError:
            known = ", ".join(tier.label for tier in cls)
            msg = f"{text!r} is not an identity tier; the tiers are {known}"
            raise ValueError(msg) from None
