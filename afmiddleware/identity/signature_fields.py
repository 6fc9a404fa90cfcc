"""The fields of a signed request, read: `Signature-Input`, `Signature` (RFC 9421) and `Signature-Agent`.

Everything here comes from whoever sent the request. Nothing is believed; what cannot be read in one way is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import http_sf
import msgspec

from afmiddleware.grammar.origins import origin_of
from afmiddleware.identity.directory import WELL_KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.model.http import HttpFacts

TAG: Final = "web-bot-auth"
MAX_INPUT: Final = 4096
MAX_SIGNATURE: Final = 4096
MAX_AGENT: Final = 1024
MAX_LABELS: Final = 4
MAX_COMPONENTS: Final = 16
_DERIVED: Final = frozenset({"@method", "@authority", "@scheme", "@target-uri", "@path", "@query"})
_FIELD = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_AGENT: Final = "signature-agent"


class SignatureError(Exception):
    """Why a signature is not good; for the log, not for the caller. `ambiguous` when it can be read in several ways."""

    def __init__(self, detail: str, *, ambiguous: bool = False) -> None:
        super().__init__(detail)
        self.ambiguous = ambiguous


class Component(msgspec.Struct, frozen=True):
    """A covered component: its name, and its one parameter if it has one."""

    name: str
    parameter: str = ""
    value: str | bool = ""


class SignatureInput(msgspec.Struct, frozen=True):
    """What one signature says that it signs, and how."""

    label: str
    components: tuple[Component, ...]
    parameters: Mapping[str, Any]

    def covers(self, name: str) -> bool:
        """Whether a component is covered as a whole."""
        return any(one.name == name and not one.parameter for one in self.components)


def read_input(facts: HttpFacts, longest: int = MAX_INPUT) -> SignatureInput | None:
    """The one signature of the kind we know (its tag is `web-bot-auth`); `None` when there is none of that kind.

    `longest` is the most bytes of the field. Raises `SignatureError` for fields that cannot be read, are too long, or
    hold two of that kind.
    """
    text = _joined(facts, b"signature-input", longest)
    if text is None:
        return None
    members = _dictionary(text, "Signature-Input")
    if len(members) > MAX_LABELS:
        raise SignatureError("more than four signatures", ambiguous=True)
    ours = [label for label, member in members.items() if _tag(member) == TAG]
    if not ours:
        return None
    if len(ours) > 1:
        raise SignatureError("two signatures of an agent", ambiguous=True)
    label = ours[0]
    _check_signature(facts, label)
    items, parameters = members[label]
    if not isinstance(items, list) or len(items) > MAX_COMPONENTS:
        raise SignatureError("no list of at most 16 covered components")
    components = tuple(_component(item) for item in items)
    if len(set(components)) < len(components):
        raise SignatureError("a component is covered twice")
    return SignatureInput(label, components, parameters)


def read_agent(facts: HttpFacts, signed: SignatureInput, longest: int = MAX_AGENT) -> str | None:
    """The origin of the agent that a signature is made for; `None` where nobody can be told from it.

    `Signature-Agent` is a dictionary whose member is covered by its key, or one bare string that is covered as a whole.
    Raises `SignatureError` when it is not covered so, cannot be read, or is no https URL.
    """
    text = _joined(facts, b"signature-agent", longest)
    if text is None:
        return None
    covered = [one for one in signed.components if one.name == _AGENT]
    if text.lstrip(b" ").startswith(b'"'):
        if len(covered) != 1 or covered[0].parameter:
            raise SignatureError("Signature-Agent is not covered")
        value, parameters = _item(text)
    else:
        members = _dictionary(text, "Signature-Agent")
        keys = [str(one.value) for one in covered if one.parameter == "key"]
        key = signed.label if signed.label in keys else keys[0] if len(keys) == 1 else ""
        if key not in members:
            raise SignatureError("no covered member of Signature-Agent")
        value, parameters = members[key]
    if not isinstance(value, str):
        raise SignatureError("Signature-Agent holds no string")
    # A member with parameters is of a kind that this profile does not know.
    return None if parameters else _origin(value)


def _origin(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        origin = origin_of(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        raise SignatureError("Signature-Agent holds no URL") from None
    if parts.scheme != "https":
        raise SignatureError("Signature-Agent is not https")
    return origin if parts.path in ("", "/", WELL_KNOWN) and not (parts.query or parts.fragment) else None


def _joined(facts: HttpFacts, name: bytes, most: int) -> bytes | None:
    """The lines of a field as one (RFC 9110 section 5.3)."""
    if name not in facts.fields:
        return None
    text = b", ".join(facts.all(name))
    if len(text) > most:
        raise SignatureError(f"a field of more than {most} bytes", ambiguous=True)
    return text


def _dictionary(text: bytes, what: str) -> dict[str, Any]:
    twice: list[str] = []
    try:
        found: Any = http_sf.parse(
            text,
            tltype="dictionary",
            on_duplicate_key=lambda key, _context: twice.append(key),
        )
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise SignatureError(f"{what} cannot be read") from None
    if twice:
        raise SignatureError(f"a member or a parameter of {what} stands twice", ambiguous=True)
    return dict(found)


def _item(text: bytes) -> tuple[Any, Any]:
    try:
        found: Any = http_sf.parse(text, tltype="item")
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise SignatureError("Signature-Agent cannot be read") from None
    value, parameters = found
    return value, parameters


def _check_signature(facts: HttpFacts, label: str) -> None:
    text = _joined(facts, b"signature", MAX_SIGNATURE)
    member = _dictionary(text, "Signature").get(label) if text is not None else None
    if member is None or not isinstance(member[0], bytes):
        raise SignatureError("no signature for its Signature-Input")


def _tag(member: Any) -> Any:
    tag = member[1].get("tag")
    return tag if isinstance(tag, str) else None


def _component(item: Any) -> Component:
    """A covered component of a kind that is known here: no others than these can be checked."""
    name, parameters = item
    if not isinstance(name, str) or len(parameters) > 1:
        raise SignatureError("a covered component of an unknown kind")
    parameter, value = next(iter(parameters.items()), ("", ""))
    known = (
        (name in _DERIVED and not parameter)
        or (name == "@query-param" and parameter == "name")
        or (_FIELD.fullmatch(name) is not None and parameter in ("", "key", "sf"))
    )
    if not known or not isinstance(value, str if parameter != "sf" else bool):
        raise SignatureError("a covered component of an unknown kind")
    return Component(name, parameter, value)
