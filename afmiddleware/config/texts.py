"""The kinds of text in fence.yaml: how each is checked, and what an editor is told of it.

A validator's `ValueError` is the sentence that the author of the file reads, so it says what was expected.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import core_schema

from afmiddleware.grammar.durations import parse_duration
from afmiddleware.grammar.origins import origin_of
from afmiddleware.grammar.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUERY", "WEBSOCKET")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_FRACTION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,3})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z0-9.]{2,12}", re.ASCII)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,8}/?", re.ASCII)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,11}", re.ASCII)
_WINDOWS: Final = ("minute", "hour", "day", "week", "month", "year", "session", "total")


class Checked:
    """Marks a text that `check` must accept: it raises `ValueError` (as `GrammarError` is) or returns anything.

    `shown` is added to the JSON Schema.
    """

    def __init__(self, check: Callable[[str], object], **shown: Any) -> None:
        self.check = check
        self._shown = shown

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def run(value: str) -> str:
            self.check(value)
            return value

        return core_schema.no_info_after_validator_function(run, handler(source))

    def __get_pydantic_json_schema__(
        self,
        schema: core_schema.CoreSchema,
        handler: GetJsonSchemaHandler,
    ) -> dict[str, Any]:
        return {**handler(schema), **self._shown}


def one_of(*words: str) -> Checked:
    """A text that is one of `words`."""

    def check(value: str) -> None:
        if value not in words:
            msg = f"{quoted(value)} is not known here; use {_or(words)}"
            raise ValueError(msg)

    return Checked(check, enum=list(words))


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def text_of(value: Any) -> str:
    """`value` when it is a text. Raises `ValueError`."""
    if not isinstance(value, str):
        msg = f"{_kind(value)} stands here; write a text"
        raise ValueError(msg)  # noqa: TRY004 (pydantic collects ValueError)
    return value


def list_of(value: Any) -> Any:
    """`value` when it is a list. Raises `ValueError`."""
    if not isinstance(value, list | tuple):
        msg = f"{_kind(value)} stands here; write a list, such as [one, two]"
        raise ValueError(msg)  # noqa: TRY004
    return value


def some_of(value: Any) -> Any:
    """`value` when it is a list of at least one entry. Raises `ValueError`."""
    if not list_of(value):
        msg = "the list is empty; write at least one entry"
        raise ValueError(msg)
    return value


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return "a map" if isinstance(value, dict) else "a list"


def _filled(value: str) -> None:
    if not value.strip():
        msg = "the text is empty; write one"
        raise ValueError(msg)
    if not value.isprintable():
        msg = "the text holds a line break or a character that cannot be seen; write one line of plain text"
        raise ValueError(msg)


def _boolean(value: Any) -> bool:
    text = text_of(value)
    if text not in {"true", "false"}:
        msg = f"{quoted(text)} is neither true nor false; write one of them"
        raise ValueError(msg)
    return text == "true"


def _whole(value: Any) -> int:
    text = text_of(value)
    if _WHOLE.fullmatch(text) is None:
        msg = f"{quoted(text)} is not a whole number; write digits"
        raise ValueError(msg)
    return int(text)


def _fraction(value: Any) -> float:
    text = text_of(value)
    if _FRACTION.fullmatch(text) is None:
        msg = f"{quoted(text)} is not a number of seconds; write one such as 1.5"
        raise ValueError(msg)
    return float(text)


def _seconds(value: Any) -> int:
    return parse_duration(text_of(value))


def check_name(value: str) -> None:
    """Raises `ValueError` for anything but a short lower-case name."""
    if _NAME.fullmatch(value) is None:
        msg = f"{quoted(value)} is not a name; use a-z, 0-9, - and _, at most 64 characters"
        raise ValueError(msg)


def check_header(value: str) -> None:
    """Raises `ValueError` for anything but a header's name, and for one that holds other credentials."""
    if _HEADER.fullmatch(value) is None:
        msg = f"{quoted(value)} is not a header's name; use letters, digits and -"
        raise ValueError(msg)
    if value.lower() in {"authorization", "cookie", "host", "content-length", "transfer-encoding"}:
        msg = f"the header {value} has a meaning of its own; use another, such as X-API-Key"
        raise ValueError(msg)


def check_key_prefix(value: str) -> None:
    """Raises `ValueError` for anything but 2 to 12 lower-case letters and digits."""
    if re.fullmatch(r"[a-z][a-z0-9]{1,11}", value, re.ASCII) is None:
        msg = f"{quoted(value)} is not the prefix of a key; write 2 to 12 of a-z and 0-9, a letter first"
        raise ValueError(msg)


def check_url(value: str) -> None:
    """Raises `ValueError` for anything but an https URL, or an http one of this host."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is not None and parts.username is not None:
        # It may hold a password, so it is not repeated.
        msg = "the URL holds a user's name or password; leave it out"
        raise ValueError(msg)
    plain = value.isascii() and value.isprintable() and " " not in value
    if parts is None or not host or not plain or parts.fragment:
        msg = f"{quoted(value)} is not a URL; write one such as https://as.example.com"
        raise ValueError(msg)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        msg = f"{quoted(value)} is not an https URL; use https (plain http is for loopback only)"
        raise ValueError(msg)


def check_origin(value: str) -> None:
    """Raises `ValueError` for anything but an https origin, or an http one of this host."""
    check_url(value)
    origin_of(value)


def check_prefix(value: str) -> None:
    """Raises `ValueError` for anything but a path that every server and client reads alike."""
    if _PREFIX.fullmatch(value) is None or not value.strip("/") or {".", ".."} & {*value.split("/")}:
        msg = f"{quoted(value)} is no path for the fence's own endpoints; write one such as /.well-known/agent-fence/"
        raise ValueError(msg)


def check_host(value: str) -> None:
    """Raises `ValueError` for anything but a host's name or address, in lower case."""
    if _HOST.fullmatch(value) is None:
        msg = f"{quoted(value)} is not a host; write its name in lower case, such as keys.example.com"
        raise ValueError(msg)


def check_network(value: str) -> None:
    """Raises `ValueError` for anything but an address or a network, and for one that holds every address."""
    try:
        network = ip_network(value)
    except ValueError:
        msg = f"{quoted(value)} is not an address or a network; write one such as 10.0.0.0/8, with no bits after it"
        raise ValueError(msg) from None
    if not network.prefixlen:
        msg = "whoever connects would be believed; name the addresses of your proxies"
        raise ValueError(msg)


def check_realm(value: str) -> None:
    """Raises `ValueError` for anything but a short name without quotes."""
    if re.fullmatch(r"[\w .:/-]{1,64}", value, re.ASCII) is None:
        msg = f"{quoted(value)} is not a realm; use letters, digits, spaces and . : / - _, at most 64"
        raise ValueError(msg)


def check_thumbprint(value: str) -> None:
    """Raises `ValueError` for anything but a SHA-256 in base64url without padding, as `x5t#S256` has it."""
    if re.fullmatch(r"[A-Za-z0-9_-]{43}", value, re.ASCII) is None:
        msg = f"{quoted(value)} is not the base64url SHA-256 of a certificate, 43 characters as in x5t#S256"
        raise ValueError(msg)


def check_zone(value: str) -> None:
    """Raises `ValueError` for a time zone that the IANA database does not name."""
    try:
        # Besides zones the folders of the database hold copies of all of them, and one named after this host.
        if not value.startswith(("posix/", "right/", "local", "posixrules")):
            ZoneInfo(value)
            return
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    msg = f"{quoted(value)} is not an IANA time zone; write one such as Europe/Amsterdam"
    raise ValueError(msg)


def check_currency(value: str) -> None:
    """Raises `ValueError` for anything that does not look like the code of a currency."""
    if _CURRENCY.fullmatch(value) is None:
        msg = f"{quoted(value)} is not a currency code; write one such as USD"
        raise ValueError(msg)


def check_route(value: str) -> None:
    """Raises `ValueError` for anything but `METHOD template`."""
    method, _, template = value.partition(" ")
    if not template or template != template.strip() or not value.isprintable() or not method.isalpha():
        msg = f"{quoted(value)} is not a route; write a method and the framework's template, such as POST /trips/{{id}}"
        raise ValueError(msg)
    if method not in METHODS:
        hint = f"write {method.upper()}" if method.upper() in METHODS else f"use {_or(METHODS)}"
        msg = f"{quoted(method)} is not a method; {hint}"
        raise ValueError(msg)


def check_window(value: str) -> None:
    """Raises `ValueError` for anything but a calendar window, `session`, `total` or `rolling 60m`."""
    word, _, length = value.partition(" ")
    if value in _WINDOWS:
        return
    if word != "rolling":
        msg = f"{quoted(value)} is not a window; use {', '.join(_WINDOWS)} or rolling 60m"
        raise ValueError(msg)
    parse_duration(length)


SOME: Final = Field(json_schema_extra={"minItems": 1})
"""What an editor is told of a list that `some_of` checks."""

Word = Annotated[str, BeforeValidator(text_of)]
Text = Annotated[str, BeforeValidator(text_of), Checked(_filled, minLength=1)]
Boolean = Annotated[
    bool,
    BeforeValidator(_boolean),
    WithJsonSchema({"enum": [True, False, "true", "false"]}),
]
Whole = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": "^(0|[1-9][0-9]{0,11})$"}),
]
Fraction = Annotated[
    float,
    BeforeValidator(_fraction),
    WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": "^[0-9]{1,5}([.][0-9]{1,3})?$"}),
]
Seconds = Annotated[
    int,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,8}[smhd]$", "examples": ["10s", "60m"]}),
]
