"""Another policy for a running fence: made whole, and tried against the application, before it decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.assemble import adopt, assemble
from afmiddleware.errors import ConfigError
from afmiddleware.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware.fence import Fence
    from afmiddleware.lookups.jwks import KeySources

_KEPT: Final = (
    "ledger",
    "rates",
    "webhooks",
    "identity.introspection",
    "receipts.mac_key",
    "receipts.signing_key",
    "receipts.anchor",
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the policy of a fence stands. Times are in microseconds since the epoch.

    `digest` is in force `since`. With `problems` the file was found wrong at `failed_at`, and is not what decides.
    `superseded_by` is the digest of the policy that other processes have put in force, as this `generation`, while the
    file here does not say it: then nothing is decided here.
    """

    digest: str
    since: int
    problems: tuple[str, ...] = ()
    failed_at: int = 0
    superseded_by: str = ""
    generation: int = 0

    @property
    def healthy(self) -> bool:
        """Whether what decides is what the file says, and that may decide."""
        return not self.problems and not self.superseded_by


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that could take over, with what it was compiled to."""

    config: Config
    base: Path
    assembled: Plan
    plan: Plan
    keys: KeySources


def candidate(fence: Fence) -> Candidate:
    """Read the policy of a fence again, and fit it to the application. Raises `ConfigError` with every problem."""
    if fence.file is None:
        raise ConfigError(["the fence was not made from a file, so there is nothing to read again"])
    config, base = fence.file.read()
    fence.tried = config, base
    kept = [f"{config.source}: {name} is kept by a running process; restart it" for name in _kept(fence.config, config)]
    if kept:
        raise ConfigError(kept)
    made, keys = assemble(config, base, fence.sign, fence.key_sources)
    assembled = replace(made, plugins=fence.plan.plugins)
    plan = adopt(assembled, config, fence.listing)[0] if fence.listing is not None else assembled
    for fits in fence.fits:
        fits(plan, config.source)
    return Candidate(config=config, base=base, assembled=assembled, plan=plan, keys=keys)


def unchanged(fence: Fence) -> bool:
    """Whether the files of a fence's policy still say what is in force, by their digests. Raises `ConfigError`."""
    return fence.file is not None and fence.plan.file == fence.file.text(fence.config, fence.base).file


def _kept(now: Config, then: Config) -> Iterator[str]:
    """What differs of the things that are opened once, at the start."""
    for name in _KEPT:
        if _at(now, name) != _at(then, name):
            yield name


def _at(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config
