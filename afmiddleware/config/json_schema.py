"""The JSON Schema (draft 2020-12) of fence.yaml, for editors."""

from __future__ import annotations

from typing import Any, Final

from afmiddleware.config.schema import Config

_OURS: Final = ("line", "digest", "source")


def json_schema() -> dict[str, Any]:
    """The schema. A scalar may be written without quotes, so every text may also be a number or a boolean."""
    schema = Config.model_json_schema(by_alias=True)
    _widen(schema)
    for name in ("Rule", "AllowRule"):
        rule = schema["$defs"][name]
        rule["properties"]["when"] = {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
        schema["$defs"][name] = {"anyOf": [{"type": "string"}, rule]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "afmiddleware policy (fence.yaml)"
    return schema


def _widen(node: Any) -> None:
    """Leave out what the loader fills in, and let editors' typed scalars pass for text."""
    if isinstance(node, list):
        for one in node:
            _widen(one)
        return
    if not isinstance(node, dict):
        return
    if "properties" in node:
        for name in _OURS:
            node["properties"].pop(name, None)
        on_outcome = node["properties"].get("on_outcome")
        if on_outcome is not None:
            on_outcome["anyOf"].append({"const": "keep"})
    if node.get("type") == "string":
        node["type"] = ["string", "number", "boolean"]
    for value in node.values():
        _widen(value)
