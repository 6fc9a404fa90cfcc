"""What of an action is never kept: values at the policy's paths, and what is secret by its name or its look.

A private member of a receipt that is named here is withheld: its commitment stands in the body, its value nowhere. The
salt is derived from the log's key, so the operator can still check a value that somebody claims, and nobody else can
guess it; without the key it is gone. What is taken out of a payload goes into one such member, `withheld`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.model.receipt import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

WITHHELD: Final = "withheld"
TAKEN: Final = "(withheld)"
"""What stands in a payload in the place of a value that is not kept."""

MAX_PAYLOAD: Final = 64 * 1024
_SECRET_NAME = re.compile(
    r"(?:.*[._-])?(?:authorization|cookie|set-cookie|passw(?:or)?d|passphrase|secret|token|signature|credentials?|"
    r"api[_-]?key|private[_-]?key|secret[_-]?key|access[_-]?key|cvv2?|cvc2?|card[_-]?number|pan)",
    re.IGNORECASE | re.ASCII,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CARD = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}", re.ASCII)
_SECRET_TEXT = re.compile(
    r"\s*(?:bearer|basic|dpop) \S{8,}|afk_live_\S{20,}|[a-z][a-z0-9]{1,11}_live_[0-9a-z]{10}_\S{9,}|"
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}\.\S*|"
    r"-----BEGIN [A-Z ]*KEY-----",
    re.IGNORECASE | re.ASCII,
)
_encode = msgspec.json.Encoder(order="sorted").encode


class Redaction:
    """The policy's `receipts.redact`: names of private members, and `payload.<path>` where `*` is any one step."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.members: frozenset[str] = frozenset(PRIVATE).intersection(paths)
        self._paths = tuple(tuple(path.split(".")[1:]) for path in paths if path.startswith("payload."))

    def split(self, payload: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is kept of a payload, and what is taken out of it, by its path."""
        taken: dict[str, Any] = {}
        kept: dict[str, Any] = self._kept(dict(payload), (), taken)
        return kept, taken

    def hides(self, payload: Mapping[str, Any]) -> Callable[[str], bool]:
        """Which fields of a condition (`payload.card.number`, `recipient`) hold anything that is not to be shown."""
        taken = self.split(payload)[1]

        def hidden(field: str) -> bool:
            name, _, path = field.partition(".")
            if name != "payload" or name in self.members:
                return name in self.members
            return any(f"{one}.".startswith(f"{path}.") or f"{path}.".startswith(f"{one}.") for one in taken)

        return hidden

    def _kept(self, value: Any, path: tuple[str, ...], taken: dict[str, Any]) -> Any:
        if path and (any(_fits(one, path) for one in self._paths) or _secret(path[-1], value)):
            taken[".".join(path)] = value
            return TAKEN
        if isinstance(value, dict):
            return {name: self._kept(one, (*path, str(name)), taken) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._kept(one, (*path, str(place)), taken) for place, one in enumerate(value)]
        return value


def text_of(value: Mapping[str, Any]) -> str:
    """A payload as canonical JSON, or how long it is when that is more than 64 KiB."""
    data = _encode(value)
    return data.decode() if len(data) <= MAX_PAYLOAD else f"(left out: {len(data)} bytes)"


def betrays(text: str | None, taken: Mapping[str, Any]) -> bool:
    """Whether a text that was made of a payload holds a value that was taken out of it."""
    return text is not None and any(one and one in text for one in _texts(taken.values()))


def _texts(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, list | tuple):
            yield from _texts(value)
        elif not isinstance(value, bool) and value is not None:
            yield str(value)


def _fits(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(pattern) == len(path) and all(one in ("*", step) for one, step in zip(pattern, path, strict=True))


def _secret(name: str, value: Any) -> bool:
    """Whether a value is secret by the name it has, or looks like a token, a key, or the number of a card."""
    if _SECRET_NAME.fullmatch(_CAMEL.sub("_", name)) is not None:
        return True
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return False
    return _SECRET_TEXT.match(value) is not None or any(_is_card(found) for found in _CARD.findall(value))


def _is_card(text: str) -> bool:
    """Whether digits pass the check of card numbers (ISO/IEC 7812, Luhn)."""
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [one * 2 - 9 if one > 4 else one * 2 for one in digits[-2::-2]]  # noqa: PLR2004 (two digits become one)
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
