"""docs/policy.md: every example loads, every key of the language has one, and the commands it names do what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware.cli import main
from afmiddleware.config.json_schema import json_schema
from afmiddleware.config.load import load
from afmiddleware.mapping.coverage import STOPS, UNMAPPED, UNREAD
from afmiddleware.policy.lint import IDS

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8")
HEAD = "version: 1\nservice: docs\n"
TWINS = re.compile(r"routes\[\]\.(?:methods|tools)\.\*\..*|identity\..*|receipts\.anchor\..*")
"""What stands on the page once for several: calls are mapped as routes are; identity and anchors are in the schema."""


def blocks(info: str) -> list[str]:
    return re.findall(rf"^```{info}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


EXAMPLES = [text if text.startswith("version:") else HEAD + text for text in (*blocks("yaml"), *blocks("yaml policy"))]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_loads(text: str) -> None:
    assert load(text, env={}).version == 1


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_right_for_an_editor(text: str) -> None:
    validator = import_module("jsonschema").Draft202012Validator(json_schema())
    document = yaml.load(text, yaml.BaseLoader)  # noqa: S506 (it makes plain values only)
    assert [error.json_path for error in validator.iter_errors(document)] == []


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}".lstrip(".")
            yield from keys_of(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{path}[]")


def keys_in(node: Any, schema: Any, path: str = "", seen: tuple[str, ...] = ()) -> Iterator[str]:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from keys_in(schema["$defs"][name], schema, path, (*seen, name))
    for one in (*node.get("anyOf", ()), *node.get("allOf", ()), *node.get("oneOf", ())):
        yield from keys_in(one, schema, path, seen)
    for name, one in node.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here
        yield from keys_in(one, schema, here, seen)
    if isinstance(node.get("additionalProperties"), dict):
        yield from keys_in(node["additionalProperties"], schema, f"{path}.*", seen)
    if isinstance(node.get("items"), dict):
        yield from keys_in(node["items"], schema, f"{path}[]", seen)


def test_every_key_has_an_example() -> None:
    shown = {one for text in EXAMPLES for one in keys_of(yaml.load(text, yaml.BaseLoader))}  # noqa: S506 (texts alone)
    patterns = [
        re.escape(key).replace(r"\*", "[^.]+")
        for key in keys_in(json_schema(), json_schema())
        if not TWINS.fullmatch(key)
    ]
    lacking = sorted({one for one in patterns if not any(re.fullmatch(one, key) for key in shown)})
    assert lacking == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fence.yaml").write_text(f"{HEAD}ledger: memory\n{blocks('yaml policy')[0]}", "utf-8")
    (tmp_path / "cases.yaml").write_text(blocks("yaml cases")[0], "utf-8")
    (tmp_path / "trace.jsonl").write_text(blocks("json trace")[0], "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["test", "cases.yaml", "--policy", "fence.yaml", "--junit", "report.xml"], 0, "3 of 3 cases are as expected."),
        (["diff", "fence.yaml", "fence.yaml", "--cases", "cases.yaml"], 0, "0 of 3 cases change, 0 are newly allowed."),
        (["diff", "fence.yaml", "other.yaml", "--cases", "cases.yaml"], 1, "NEWLY ALLOWED a large one (payments.pay)"),
        (["replay", "trace.jsonl", "--policy", "fence.yaml"], 0, "2 total, 2 reproduced"),
        (["replay", "trace.jsonl", "--policy", "other.yaml"], 1, "changed d2"),
    ],
)
def test_the_commands_do_what_the_page_says(
    arguments: list[str], code: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = (
        (here / "fence.yaml")
        .read_text("utf-8")
        .replace("gte: 1000 USD", "gte: 5500 USD")
        .replace("5000 USD", "9000 USD")
    )
    (here / "other.yaml").write_text(other, "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code, said in capsys.readouterr().out) == (code, True)


def test_every_finding_of_check_stands_on_the_page() -> None:
    found = PAGE.partition("## What `check` finds")[2].partition("\n## ")[0]
    doubts, _, audits = found.partition("What the audit finds")
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", doubts)) == set(IDS)
    told: dict[str, set[str]] = {}
    for line in audits.splitlines():
        if line.startswith("| `"):
            told.setdefault(line.split("|")[-2].strip(), set()).update(re.findall(r"`(coverage\.[a-z_]+)`", line))
    assert told == {"no": {*STOPS}, "yes": {UNMAPPED, UNREAD}}
