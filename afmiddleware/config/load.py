"""From the text of a policy file to a `Config`, or to all its problems at once."""

from __future__ import annotations

import hashlib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from afmiddleware.config.checks import check
from afmiddleware.config.identity_schema import client_secret
from afmiddleware.config.ledger_url import holds_password
from afmiddleware.config.limits import limits_of
from afmiddleware.config.messages import translated, unknown
from afmiddleware.config.schema import Config, mac_secret
from afmiddleware.config.tree import Path, Problem, Tree, read_tree, spelled
from afmiddleware.errors import ConfigError
from afmiddleware.grammar.quoting import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["limits_of", "load"]

_NUMBERED: Final[tuple[Path, ...]] = (
    ("routes",),
    ("limits",),
    ("rules", "deny"),
    ("rules", "require_approval"),
    ("rules", "allow"),
    ("identity", "jwt", "issuers"),
)
_SECRETS: Final[Mapping[Path, Callable[[str], bytes]]] = MappingProxyType(
    {
        ("receipts", "mac_key"): mac_secret,
        ("receipts", "signing_key"): str.encode,
        ("receipts", "anchor", "token"): str.encode,
        ("identity", "introspection", "client_secret"): client_secret,
    },
)
_URLS: Final = ("ledger", "rates")
"""URLs that may hold a password: such a one is read whole from the environment."""
_MAY_NAME: Final[frozenset[Path]] = frozenset({*_SECRETS, *((name,) for name in _URLS), ("metadata",)})
"""Where `${NAME}` may stand."""
_OF_THE_PLACE: Final = ("version", "service", "ledger", "receipts")
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def load(
    text: str | bytes,
    source: str = "fence.yaml",
    env: Mapping[str, str] | None = None,
    *,
    secrets: bool = True,
) -> Config:
    """Read and check a policy.

    `env` is where a secret written as `${NAME}` is read from; without `secrets` none is looked for, and the policy is
    good for deciding once more what is on record, and for nothing else. Raises `ConfigError` with every problem at
    once, each as `source:line:column: what is wrong; what to do`, in the order of the file.
    """
    content = _decoded(text, source)
    return _checked(read_tree(content), content, source, (env or {}) if secrets else None)


def load_place(text: str | bytes, source: str = "fence.yaml", env: Mapping[str, str] | None = None) -> Config:
    """Read of a policy only where its ledger is and what its receipts are made with, whatever else is wrong in it.

    Raises `ConfigError` for what is no YAML, and for what is wrong in those sections; with every problem where the file
    does not say where its ledger is, for it may have meant to.
    """
    content = _decoded(text, source)
    tree = read_tree(content)
    if not tree.problems and ("ledger" in tree.value or (env or {}).get("AFM_LEDGER")):
        tree.value = {name: tree.value[name] for name in _OF_THE_PLACE if name in tree.value}
    return _checked(tree, content, source, env or {})


def _checked(tree: Tree, content: str, source: str, env: Mapping[str, str] | None) -> Config:
    config: Config | None = None
    if not tree.unread:
        check(tree)
        digest = hashlib.sha256(content.encode("utf-8")).hexdigest()
        value = {**_complete(tree, env), "digest": digest, "source": source}
        try:
            config = Config.model_validate(value)
        except ValidationError as error:
            tree.problems.extend(translated(error, tree))
    if tree.problems or config is None:
        raise ConfigError([f"{source}:{one.line}:{one.column}: {one.text}" for one in sorted(set(tree.problems))])
    return config


def _decoded(text: str | bytes, source: str) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        line = before.count(b"\n") + 1
        raise ConfigError([f"{source}:{line}:{column}: the text is not UTF-8; save the file as UTF-8"]) from None


def _complete(tree: Tree, env: Mapping[str, str] | None) -> dict[str, Any]:
    """The tree's value with what the loader knows: the line of every entry, the id of every rule, the secrets.

    Without `env` what stands for a secret is taken for one, and what stands for a URL is left out.
    """
    value: dict[str, Any] = tree.value
    _refuse_ours(value, (), tree, ("digest", "source"))
    for path in _NUMBERED:
        entries = _at(value, path)
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            here = (*path, place)
            known: Any = {"capability": entry} if path[0] == "rules" and isinstance(entry, str) else entry
            if isinstance(known, dict):
                _refuse_ours(known, here, tree, ("line",))
                known["line"] = tree.place(here)[0]
                if path[0] == "rules":
                    known.setdefault("id", f"{path[1]}[{place + 1}]")
                entries[place] = known
    _number_named(value, tree)
    tree.problems.extend(_misplaced(value, (), tree))
    for path in _SECRETS:
        _read_secret(value, path, tree, env)
    for name in _URLS:
        _read_url(value, name, tree, env)
    return value


def _number_named(value: dict[str, Any], tree: Tree) -> None:
    """The lines of entries that stand under names."""
    rules = value.get("rules")
    if isinstance(rules, dict):
        _refuse_ours(rules, ("rules",), tree, ("risk_lines",))
        levels = rules.get("risk")
        if isinstance(levels, dict):
            rules["risk_lines"] = {level: tree.place(("rules", "risk", level))[0] for level in levels}
    for section in ("lists", "actors"):
        found = value.get(section)
        for name, entry in found.items() if isinstance(found, dict) else ():
            if isinstance(entry, dict):
                _refuse_ours(entry, (section, name), tree, ("line",))
                entry["line"] = tree.place((section, name))[0]


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _refuse_ours(value: dict[str, Any], path: Path, tree: Tree, names: tuple[str, ...]) -> None:
    """A name that the loader fills in is as unknown in a file as any other."""
    for name in names:
        if name in value:
            tree.problems.append(unknown((*path, name), tree))
            del value[name]


def _misplaced(value: Any, path: Path, tree: Tree) -> Iterator[Problem]:
    """`${NAME}` belongs where a secret does, and nowhere else."""
    if path in _MAY_NAME:
        return
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _misplaced(one, (*path, key), tree)
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _misplaced(one, (*path, place), tree)
    elif isinstance(value, str) and path in tree.places and (match := _VARIABLE.search(value)) is not None:
        text = f"{spelled(path)}: {cut(match.group(0))} is not read here, only secrets are; write the value"
        yield Problem(*tree.place(path), text)


def _read_secret(value: dict[str, Any], path: Path, tree: Tree, env: Mapping[str, str] | None) -> None:
    holder, name = _at(value, path[:-1]), path[-1]
    found = holder.get(name) if isinstance(holder, dict) else None
    if found is None or path in tree.broken:
        return
    if isinstance(found, dict):
        _refuse_ours(found, path, tree, ("secret",))
        if "file" not in found:
            _note(tree, path, "the key 'file' is missing; add it")
        return
    match = _VARIABLE.fullmatch(found) if isinstance(found, str) else None
    if match is None or _VARIABLE_NAME.fullmatch(match.group(1)) is None:
        inline = isinstance(found, str)
        said = "a secret may not stand in the file" if inline else "a list stands here"
        _note(tree, path, f"{said}; write ${{NAME}} of an environment variable, or {{file: path}}")
    elif env is None:
        holder[name] = {"secret": bytes(32)}
        return
    elif match.group(1) not in env:
        _note(tree, path, f"the environment variable {match.group(1)} is not set; set it, or use {{file: path}}")
    else:
        try:
            secret = _SECRETS[path](env[match.group(1)])
        except ValueError as error:
            _note(tree, path, f"the environment variable {match.group(1)} {error}")
        else:
            holder[name] = {"secret": secret}
            return
    # What was wrong here is said; the schema need not say it again.
    tree.broken.add(path)


def _read_url(value: dict[str, Any], name: str, tree: Tree, env: Mapping[str, str] | None) -> None:
    path, found = (name,), value.get(name)
    if not isinstance(found, str) or path in tree.broken:
        return
    match = _VARIABLE.fullmatch(found)
    if match is not None and env is None:
        del value[name]
    elif match is not None and env is not None and match.group(1) in env:
        value[name] = env[match.group(1)]
    elif match is not None and env is not None and name == "ledger" and env.get("AFM_LEDGER"):
        # That stands in its place, as whoever reads the file does next.
        del value[name]
    elif match is not None:
        _note(tree, path, f"the environment variable {cut(match.group(1))} is not set; set it")
        tree.broken.add(path)
    elif "${" in found:
        _note(tree, path, "a part of a URL is not read from the environment; write ${NAME} for the whole of it")
        tree.broken.add(path)
    elif holds_password(found):
        other = ", or use PGPASSFILE" if name == "ledger" else ""
        _note(tree, path, f"a password may not stand in the file; write ${{NAME}} for the whole URL{other}")
        tree.broken.add(path)


def _note(tree: Tree, path: Path, text: str) -> None:
    tree.problems.append(Problem(*tree.place(path), f"{spelled(path)}: {text}"))
