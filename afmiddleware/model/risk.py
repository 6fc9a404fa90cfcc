"""How risky an action is: what a route or a trusted caller says of it, never the payload."""

from __future__ import annotations

from typing import Final

RISKS: Final = ("low", "medium", "high", "critical")
"""The levels of risk, the lowest first."""


def check_risk(text: str) -> str:
    """Return `text` when it is a level of risk, exactly as `RISKS` spells it. Raises `ValueError` naming them."""
    if text not in RISKS:
        msg = f"{str(text)[:40]!r} is not a level of risk; the levels are {', '.join(RISKS)}"
        raise ValueError(msg)
    return text
