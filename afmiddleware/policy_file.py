"""The policy file and the files it names: reading them, and telling whether one of them has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.config.ledger_url import check_ledger
from afmiddleware.config.load import load
from afmiddleware.config.policy_schema import observing
from afmiddleware.errors import ConfigError
from afmiddleware.lookups.lists import digest_of
from afmiddleware.model.policy_text import PolicyText

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from afmiddleware.config.schema import Config

MOST_KEPT: Final = 1 << 22
"""How long a policy and its lists may be, in characters, to be kept in the ledger."""

Mark = tuple[str, int, int, int, int, int]
Marks = tuple[Mark | None, ...]
"""What tells one state of some files from another; `None` for one that cannot be looked at."""


class PolicyFile(msgspec.Struct, frozen=True):
    """Where a policy comes from: its path as it was given, and the environment that has a say in it."""

    path: str | os.PathLike[str] | None
    env: Mapping[str, str]

    @property
    def place(self) -> Path:
        """The path that counts."""
        return Path(self.env.get("AFM_POLICY") or self.path or "fence.yaml")

    def read(self) -> tuple[Config, Path]:
        """The policy, and the folder its files are relative to. Raises `ConfigError` with every problem."""
        return read_policy(self.path, self.env)

    def text(self, config: Config, base: Path) -> PolicyText:
        """The text as it is now, with that of the lists that `config` names. Raises `ConfigError`."""
        content, _ = _read(self.place)
        lists: dict[str, str] = {}
        for name, entry in config.lists.items():
            if entry.file is None:
                continue
            try:
                lists[name] = (base / entry.file).read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                msg = f"{config.source}: the list {name} cannot be read again: {type(error).__name__}"
                raise ConfigError([msg]) from None
        return PolicyText(digest_of_text(content, lists), content, lists)

    def kept(self, config: Config, base: Path, digest: str) -> PolicyText | None:
        """The text of the policy with this digest, to be kept; `None` when the files say another one by now.

        Nor is one kept that is longer than 4 MiB, its lists included.
        """
        try:
            found = self.text(config, base)
        except ConfigError:
            return None
        size = len(found.text) + sum(map(len, found.lists.values()))
        return found if found.file == digest and size <= MOST_KEPT else None

    def marks(self, config: Config, base: Path) -> Marks:
        """The present state of the file and of those that `config` names.

        Symbolic links are followed, so that a link which comes to mean another file is a change, and a file that is
        replaced by another of the same name is one too.
        """
        return tuple(_mark(one) for one in (self.place, *_named(config, base)))


def digest_of_text(text: str, lists: Mapping[str, str]) -> str:
    """The digest of a policy file with this text, and of its lists' files."""
    return digest_of(_sha256(text), {name: _sha256(content) for name, content in lists.items()})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_policy(
    path: str | os.PathLike[str] | None,
    env: Mapping[str, str],
    read: Callable[[str, str, Mapping[str, str]], Config] = load,
) -> tuple[Config, Path]:
    """Read and check a policy file; returns it with its folder. Raises `ConfigError` with every problem.

    `read` says what of it: all, unless it is `load_place`.
    """
    place = Path(env.get("AFM_POLICY") or path or "fence.yaml")
    text, real = _read(place)
    config = read(text, str(place), env)
    changes = {name: env[key] for name, key in (("mode", "AFM_MODE"), ("ledger", "AFM_LEDGER")) if env.get(key)}
    checks: dict[str, Callable[[str], object]] = {"mode": observing, "ledger": check_ledger}
    for name, value in changes.items():
        try:
            checks[name](value)
        except ValueError as error:
            msg = f"AFM_{name.upper()}: {error}"
            raise ConfigError([msg]) from None
    return config.model_copy(update=changes), real.parent


def _read(place: Path) -> tuple[str, Path]:
    """The text of a policy file, and where it really is. Raises `ConfigError`."""
    try:
        # Resolved first: where a link is switched, the policy and the files beside it come from one side of it.
        real = place.resolve()
        return real.read_bytes().decode("utf-8"), real
    except UnicodeDecodeError:
        msg = f"{place}: the policy file is not UTF-8"
        raise ConfigError([msg]) from None
    except FileNotFoundError:
        msg = f"{place}: there is no policy file; write a first one with: afmiddleware init --app module:app"
        raise ConfigError([msg]) from None
    except OSError as error:
        msg = f"{place}: the policy file cannot be read: {error.strerror}"
        raise ConfigError([msg]) from None


def _named(config: Config, base: Path) -> Iterator[Path]:
    """The files beside the policy that a change of is a change of the policy."""
    for entry in config.lists.values():
        if entry.file is not None:
            yield base / entry.file
    for issuer in config.identity.jwt.issuers if config.identity.jwt is not None else ():
        if issuer.jwks_file is not None:
            yield base / issuer.jwks_file
    for agent in config.identity.web_bot_auth.agents if config.identity.web_bot_auth is not None else ():
        if agent.jwks_file is not None:
            yield base / agent.jwks_file


def _mark(path: Path) -> Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # What is written in place may keep its size and be given its old time of change; that of its inode it cannot.
    return (str(path), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
