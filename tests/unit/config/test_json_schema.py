"""What an editor accepts and the loader accepts are the same, as far as a schema can tell."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from afmiddleware.config.json_schema import json_schema
from afmiddleware.config.load import load

jsonschema = import_module("jsonschema")

FULL = Path(__file__).with_name("full.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.BaseLoader], ids=["typed scalars", "texts"])
def test_the_full_example_is_valid(validator, loader):
    document = yaml.load(FULL, loader)  # noqa: S506 (both make plain values only)
    document["metadata"].pop("reviewed")
    assert [error.json_path for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("servise", "a"),
        ("version", 2),
        ("mode", "block"),
        ("line", 1),
        ("digest", "a"),
        ("rates", ["redis://x"]),
        ("routes", [{"capability": "a.b"}]),
        ("routes", [{"route": "GET /a"}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "line": 1}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "on_outcome": {"5xx": "release"}}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "amount": {"unit": "major"}}]),
        ("rules", {"require_approval": [{}]}),
        ("rules", {"deny": [{"capability": "a.b", "identity": "token"}]}),
        ("rules", {"allow": [{"capability": "a.b", "when": {}}]}),
        ("rules", {"allow": [{"capability": "a.b", "scopes": []}]}),
        ("rules", {"allow": [{"capability": "a.b", "when": []}]}),
        ("rules", {"allow": [{"capability": "a.b", "when": [{}]}]}),
        ("rules", {"allow": [{"capability": "a.b", "currency": []}]}),
        ("schedules", {"office": {"open": []}}),
        ("limits", [{"name": "a", "rate": "1/day", "per": []}]),
        ("limits", [{"name": "a", "rate": "1/day", "per": ["actor", "actor"]}]),
        ("limits", [{"name": "a", "rate": "1/day", "concurrent": 1}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "amount": {"sum": []}}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "on_outcome": {}}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "on_outcome": {"4xx": "release", "2xx": "keep"}}]),
        ("limits", [{"name": "a"}]),
        ("limits", [{"name": "a", "spend": "1 USD"}]),
        ("limits", [{"name": "a", "rate": "1/day", "spend": "1 USD", "window": "day"}]),
        ("receipts", {"mac_key": "secret"}),
        ("receipts", {"mac_key": {"secret": "a"}}),
        ("receipts", {"anchor": {"file": "a", "every": 10}}),
        ("identity", {"jwt": {"issuers": []}}),
        ("identity", {"on_invalid": "reject"}),
        ("identity", {"api_keys": {"prefix": "Acme"}}),
        ("identity", {"api_keys": {"tier": "token"}}),
        ("identity", {"limits": {"header_bytes": 1}}),
        ("identity", {"agent_detection": {"user_agents": "mine"}}),
        ("identity", {"jwt": {"issuers": [{"issuer": "https://a", "audience": "a", "algorithms": ["HS256"]}]}}),
    ],
)
def test_a_mistake_is_marked_in_the_editor(validator, place, value):
    assert not validator.is_valid({"version": 1, "service": "s", place: value})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("limits", [{"name": "a", "concurrent": 5}]),
        ("limits", [{"name": "a", "rate": "1/day", "per": ["actor"]}]),
        ("identity", {"from_app": True}),
        ("identity", {"from_app": {"tier": "verified"}}),
        ("receipts", {"anchor": {"url": "https://a", "token": "${MARKS}"}}),
        ("rules", {"deny": [{"capability": "a.b", "when": [{"amount": {"gt": "5 USD"}}]}]}),
        ("rules", {"deny": [{"capability": "a.b", "observe": False}]}),
        ("rules", {"allow": [{"capability": "a.b", "currency": ["USD"], "scopes": ["pay"]}]}),
        ("schedules", {"office": {"open": ["Mon 09:00-10:00"]}}),
        ("routes", [{"route": "GET /a", "capability": "a.b", "amount": {"sum": ["body.a"]}}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "on_outcome": {"4xx": "keep"}}]),
        ("routes", [{"route": "GET /a", "capability": "a.b", "on_outcome": "keep"}]),
    ],
)
def test_what_is_right_is_not_marked(validator, place, value):
    assert validator.is_valid({"version": 1, "service": "s", place: value})
    load(json.dumps({"version": 1, "service": "s", place: value}), env={"MARKS": "t"})


def test_numbers_may_be_written_without_quotes(validator):
    assert validator.is_valid({"version": "1", "service": 42, "environment": True})


def test_an_editor_is_told_what_is_usual_and_not_what_pydantic_adds_for_itself():
    schema = json_schema()
    assert schema["properties"]["mode"]["default"] == "enforce"
    assert schema["$defs"]["Issuer"]["properties"]["leeway_s"]["default"] == 10

    def keys(node, named=False):
        """The keys of a schema with their values, but for the names of the file's own keys."""
        if isinstance(node, list):
            for one in node:
                yield from keys(one)
        elif isinstance(node, dict):
            for key, value in node.items():
                if not named:
                    yield key, value
                yield from keys(value, named=key in {"properties", "$defs"} and not named)

    told = list(keys(schema))
    assert ("default", None) not in told
    assert ("type", "null") not in told
    assert [value for key, value in told if key == "title"] == [schema["title"]]
