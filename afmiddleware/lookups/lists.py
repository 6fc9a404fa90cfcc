"""The named lists of a policy: those in the file, and those in files of their own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from afmiddleware.errors import ConfigError, GrammarError
from afmiddleware.grammar.lists import Words, entries_of, make_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from afmiddleware.config.schema import Config


class NamedList(msgspec.Struct, frozen=True):
    """A list that was read. `digest` is the hex SHA-256 of its file, empty for one without."""

    words: Words
    digest: str = ""


def read_lists(config: Config, base: Path) -> dict[str, NamedList]:
    """Read every list of a policy whose files are relative to `base`. Raises `ConfigError` with every problem."""
    found: dict[str, NamedList] = {}
    problems: list[str] = []
    for name, entry in config.lists.items():
        where = f"{config.source}:{entry.line}: the list {name}"
        try:
            content = b"" if entry.file is None else (base / entry.file).read_bytes()
            entries = (entry.values or ()) if entry.file is None else entries_of(content.decode("utf-8"))
            words = make_words(entries, entry.normalize or "")
        except OSError as error:
            problems.append(f"{where}: its file {entry.file} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{where}: its file {entry.file} is not UTF-8")
        except GrammarError as error:
            problems.append(f"{where}: {error}")
        else:
            found[name] = NamedList(words, hashlib.sha256(content).hexdigest() if entry.file is not None else "")
    if problems:
        raise ConfigError(problems)
    return found


def digest_of(digest: str, lists: Mapping[str, str]) -> str:
    """The digest of a policy with those of its lists' files: that of the file alone where no list has one."""
    told = sorted((name, one) for name, one in lists.items() if one)
    if not told:
        return digest
    return hashlib.sha256(digest.encode("ascii") + b"\0lists\0" + msgspec.json.encode(told)).hexdigest()
