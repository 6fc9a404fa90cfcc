"""`afmiddleware import`: policies of other products as a fence.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import yaml

from afmiddleware.cli.common import Group
from afmiddleware.cli.convert import from_actionfence
from afmiddleware.cli.convert_capfence import SECTIONS, from_capfence
from afmiddleware.cli.convert_t402 import from_t402
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError

_FILE = click.Path(dir_okay=False, path_type=Path)
_DEPTH: Final = 16


@click.group("import", cls=Group)
def import_group() -> None:
    """Convert the policy of another product and print a fence.yaml."""


@import_group.command("actionfence")
@click.argument("source", type=_FILE)
def actionfence_command(source: Path) -> None:
    """Convert a guard-policy.json of ActionFence."""
    _print(from_actionfence(_read(source)))


@import_group.command("capfence")
@click.argument("source", type=_FILE)
@click.option("--currency", default="USD", show_default=True, help="The currency of its amounts, which name none.")
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="[CAPABILITY=]PATH",
    help="Where its conditions on text look in the payload; with a final ? for what may be left out.",
)
def capfence_command(source: Path, currency: str, texts: tuple[str, ...]) -> None:
    """Convert a policy.yaml of CapFence, with what it extends.

    There a condition on text looks through a whole payload. Here it looks in one field, such as --text command, or
    --text shell.exec=command --text file.read=path; without it, what it would refuse is refused always.
    """
    _print(from_capfence(_merged(source), currency, texts))


@import_group.command("t402")
@click.argument("source", type=_FILE)
@click.option("--capability", default="payments.**", show_default=True, help="What its payments are called here.")
def t402_command(source: Path, capability: str) -> None:
    """Convert the policy of an agent of t402's agent-policy (JSON)."""
    _print(from_t402(_read(source), capability))


def _print(text: str) -> None:
    # What is printed is a policy, or nothing is.
    load(text, "converted")
    click.echo(text, nl=False)


def _read(source: Path) -> Any:
    """A JSON or YAML document with its numbers as they are written. Raises `ConfigError`."""
    try:
        return _typed(yaml.compose(source.read_text("utf-8"), yaml.SafeLoader), source)
    except OSError as error:
        raise ConfigError([f"{source}: the file cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{source}: this is neither JSON nor YAML: {str(error).splitlines()[0]}"]) from None


def _typed(node: yaml.Node | None, source: Path) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if str(key.value) in found:
                raise ConfigError([f"{source}:{key.start_mark.line + 1}: the key {key.value!r} stands twice"])
            found[str(key.value)] = _typed(value, source)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_typed(one, source) for one in node.value]
    if node is None or node.tag.endswith(":null"):
        return None
    if node.tag.endswith(":bool"):
        return node.value.lower() in {"true", "yes", "on"}
    return int(node.value) if node.tag.endswith(":int") and node.value.isdecimal() else str(node.value)


def _merged(source: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A policy with those it extends: their rules are added, and only make it stricter or wider as they did there."""
    if source.resolve() in seen or len(seen) > _DEPTH:
        raise ConfigError([f"{source}: it extends itself"])
    document = _read(source)
    if not isinstance(document, dict):
        raise ConfigError([f"{source}: this is no policy of CapFence: it is not a map"])
    parents = document.pop("extends", None) or []
    for parent in [parents] if isinstance(parents, str) else parents:
        above = _merged(source.parent / str(parent), (*seen, source.resolve()))
        for section in (*SECTIONS, "rules"):
            document[section] = [*(document.get(section) or ()), *(above.get(section) or ())]
        document["risk_levels"] = {**(above.get("risk_levels") or {}), **(document.get("risk_levels") or {})}
    return document
