"""What MCP over streamable HTTP adds to JSON-RPC: headers that must equal the body, and messages that act on nothing.

Source: MCP 2026-07-28, "Streamable HTTP"; for clients of earlier revisions the headers may be absent.
"""

from __future__ import annotations

import binascii
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.mapping.messages import MAX_NAME
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, REQUEST_HEADER_MISMATCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.mapping.messages import Call
    from afmiddleware.model.http import HttpFacts

TOOL_CALL: Final = "tools/call"
HOUSEKEEPING: Final = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "subscriptions/listen",
        "logging/setLevel",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    },
)
"""Methods of the protocol itself. They act on nothing, so they are no actions unless the route maps them."""

_WITHOUT_BATCHES: Final = "2025-06-18"
_WITH_HEADERS: Final = "2026-07-28"
_VERSION = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", re.ASCII)
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_ENCODED = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=", re.ASCII)
_NAMED: Final[Mapping[str, str]] = MappingProxyType(
    {
        TOOL_CALL: "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "resources/subscribe": "uri",
        "resources/unsubscribe": "uri",
    },
)
_REQUIRES_NAME: Final = frozenset({TOOL_CALL, "prompts/get", "resources/read"})


def check_headers(facts: HttpFacts, calls: Sequence[Call], *, batch: bool) -> None:
    """Return when the headers say what the body says.

    `Mcp-Method`, `Mcp-Name` and `MCP-Protocol-Version` are there for whoever routes and prices by them alone; where
    they are there they must equal the body, and from revision 2026-07-28 on they must be there. Raises `MappingError`:
    `request.header_mismatch`, and `request.ambiguous` for a header that stands twice and a batch where there are none.
    """
    version = _header(facts, b"mcp-protocol-version")
    method = _header(facts, b"mcp-method")
    name = _header(facts, b"mcp-name")
    if version is not None and _VERSION.fullmatch(version) is None:
        raise _mismatch("MCP-Protocol-Version is not a revision of the protocol")
    if batch:
        if method is not None or name is not None or (version is not None and version >= _WITHOUT_BATCHES):
            raise MappingError(REQUEST_AMBIGUOUS, "this revision of MCP has no batches")
        return
    for call in calls:
        _check(call, version, method, name)


def tool_of(call: Call) -> tuple[str, Any]:
    """The name and the arguments (`MISSING` when there are none) of a `tools/call`. Raises `MappingError`."""
    params = call.params if type(call.params) is dict else {}
    name, arguments = params.get("name"), params.get("arguments", MISSING)
    if type(name) is not str or not name or len(name) > MAX_NAME:
        raise MappingError(REQUEST_AMBIGUOUS, "a tool call does not name its tool plainly")
    if arguments is None:
        arguments = MISSING
    if arguments is not MISSING and type(arguments) is not dict:
        raise MappingError(REQUEST_AMBIGUOUS, "the arguments of a tool call are not an object")
    return name, arguments


def _check(call: Call, version: str | None, method: str | None, name: str | None) -> None:
    params = call.params if type(call.params) is dict else {}
    meta = params.get("_meta")
    told = meta.get(_VERSION_KEY) if type(meta) is dict else None
    if told is not None and told != version:
        raise _mismatch("MCP-Protocol-Version is not the revision that the body names")
    modern = version is not None and version >= _WITH_HEADERS
    if method != call.method and (method is not None or modern):
        raise _mismatch("Mcp-Method is not the method of the body")
    if name is None:
        if modern and call.method in _REQUIRES_NAME:
            raise _mismatch("Mcp-Name is missing")
        return
    if _decoded(name) != params.get(_NAMED.get(call.method, "name")):
        raise _mismatch("Mcp-Name is not the name in the body")


def _header(facts: HttpFacts, name: bytes) -> str | None:
    found = facts.all(name)
    if len(found) > 1 or not all(value.isascii() for value in found):
        raise MappingError(REQUEST_AMBIGUOUS, f"the header {name.decode()} is there more than once, or is not ASCII")
    return found[0].decode("ascii") if found else None


def _decoded(value: str) -> str | None:
    match = _ENCODED.fullmatch(value)
    if match is None:
        return value
    try:
        return binascii.a2b_base64(match.group(1), strict_mode=True).decode("utf-8")
    except ValueError:
        return None


def _mismatch(detail: str) -> MappingError:
    return MappingError(REQUEST_HEADER_MISMATCH, detail)
