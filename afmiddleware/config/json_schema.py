"""The JSON Schema (draft 2020-12) of fence.yaml, for editors."""

from __future__ import annotations

from typing import Any, Final

from afmiddleware.config.messages import OURS
from afmiddleware.config.schema import Config

_SCALARS: Final = ["string", "number", "boolean"]
_AMOUNTS: Final = [["from"], ["sum"], ["table", "prices"], ["price", "times"]]
_EITHER: Final = {
    "AmountMap": _AMOUNTS,
    "CallAmountMap": _AMOUNTS,
    "Route": [["capability"], ["public"]],
    "ListEntry": [["values"], ["file"]],
    "LimitEntry": [["rate"], ["concurrent"], ["spend", "window"]],
    "CertifiedClient": [["thumbprint"], ["uri"]],
    "Issuer": [["jwks"], ["jwks_file"], ["jwks_uri"], ["discovery"]],
}
"""Of which groups of keys exactly one must be there."""


def json_schema() -> dict[str, Any]:
    """The schema. A scalar may be written without quotes, so what is a text may also be a number or a boolean."""
    schema = Config.model_json_schema(by_alias=True)
    parts = schema["$defs"]
    for part in (schema, *parts.values()):
        for name in OURS:
            part.get("properties", {}).pop(name, None)
        part.pop("title", None)
    for name, groups in _EITHER.items():
        parts[name]["oneOf"] = [{"required": keys} for keys in groups]
    for name in ("Rule", "ApprovalRule", "AllowRule"):
        pattern = {"type": "string", "description": "A capability pattern."}
        parts[name] = {"anyOf": [pattern, parts[name]]}
    values = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
    parts["ListEntry"] = {"anyOf": [values, parts["ListEntry"]]}
    secret = {
        "type": "string",
        "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$",
        "description": "Read from the environment.",
    }
    for name in ("MacKey", "SigningEntry", "TokenEntry", "ClientSecret"):
        parts[name] = {"anyOf": [secret, {**parts[name], "required": ["file"]}]}
    parts["FromApp"] = {"anyOf": [{"enum": [True, "true"]}, parts["FromApp"]]}
    tidy = _tidied(schema)
    tidy["properties"]["metadata"] = {"type": "object", "description": "Free-form."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "afmiddleware policy (fence.yaml)",
        **tidy,
    }


def _tidied(node: Any) -> Any:
    """Without what pydantic adds for itself (titles, a null for what may be left out), and with texts widened."""
    if isinstance(node, list):
        return [_tidied(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _tidied(value) for key, value in node.items() if key != "default" or value is not None}
    if isinstance(found.get("title"), str):
        del found["title"]
    if "anyOf" in found:
        rest = [one for one in found.pop("anyOf") if one != {"type": "null"}]
        found |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    if found.get("type") == "string" and "enum" not in found and "pattern" not in found:
        found["type"] = _SCALARS
    return found
