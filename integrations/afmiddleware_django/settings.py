"""The setting `AFMIDDLEWARE`: which policy, or which fence."""

from __future__ import annotations

import difflib
import os
from typing import Any, Final

import msgspec
from django.conf import settings
from django.utils.module_loading import import_string

from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence

NAME: Final = "AFMIDDLEWARE"
_KEYS: Final = ("policy", "fence", "urlconfs")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the project says.

    `policy` is the path of the policy file. `fence` is there instead of it: a `Fence`, or the import path of one or of
    a function that makes one. `urlconfs` are the URLconfs that a middleware may choose by `request.urlconf`.
    """

    policy: str | os.PathLike[str] | None = None
    fence: Any = None
    urlconfs: tuple[str, ...] = ()


def read_settings() -> Settings:
    """What the project says. Raises `ConfigError` with every problem."""
    value = getattr(settings, NAME, None)
    if value is None:
        raise ConfigError([f'the setting {NAME} is missing: {NAME} = {{"policy": BASE_DIR / "fence.yaml"}}'])
    if not isinstance(value, dict):
        raise ConfigError([f"{NAME} is a dict with the keys {', '.join(_KEYS)}"])
    problems = [_unknown(str(key)) for key in value if key not in _KEYS]
    policy, fence, urlconfs = value.get("policy"), value.get("fence"), value.get("urlconfs", ())
    if (policy is None) == (fence is None) and not ("AFM_POLICY" in os.environ and fence is None):
        problems.append(f"{NAME} names either a policy or a fence")
    if policy is not None and not isinstance(policy, (str, os.PathLike)):
        problems.append(f"{NAME}['policy'] is the path of the policy file")
    if isinstance(urlconfs, str) or not all(isinstance(one, str) for one in urlconfs):
        problems.append(f"{NAME}['urlconfs'] is a list of import paths")
    if problems:
        raise ConfigError(problems)
    return Settings(policy=policy, fence=fence, urlconfs=tuple(urlconfs))


def make_fence(said: Settings) -> Fence:
    """The fence that the settings mean. Raises `ConfigError` with every problem of the policy."""
    fence = said.fence
    if fence is None:
        return Fence.from_file(said.policy)
    if isinstance(fence, str):
        try:
            fence = import_string(fence)
        except ImportError as error:
            raise ConfigError([f"{NAME}['fence'] cannot be imported: {error}"]) from error
    if callable(fence):
        fence = fence()
    if not isinstance(fence, Fence):
        raise ConfigError([f"{NAME}['fence'] is no Fence, and makes none"])
    return fence


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    return f"{NAME} has no key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
