"""Another policy for a running fence: made whole, and tried against the application, before it decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.assemble import adopt, assemble
from afmiddleware.authenticators import introspector
from afmiddleware.errors import ConfigError
from afmiddleware.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware.fence import Fence
    from afmiddleware.lookups.introspection import Introspector
    from afmiddleware.lookups.jwks import KeySources

_KEPT: Final = ("ledger", "rates", "webhooks")
_KEPT_OF_RECEIPTS: Final = ("mac_key", "signing_key", "anchor")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the policy of a fence stands. Times are in microseconds since the epoch.

    `digest` is in force `since`. With `problems` the file was found wrong at `failed_at`, and is not what decides.
    """

    digest: str
    since: int
    problems: tuple[str, ...] = ()
    failed_at: int = 0

    @property
    def healthy(self) -> bool:
        """Whether what decides is what the file says."""
        return not self.problems


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that could take over, with what it was compiled to."""

    config: Config
    base: Path
    assembled: Plan
    plan: Plan
    keys: KeySources
    introspector: Introspector | None


def candidate(fence: Fence) -> Candidate:
    """Read the policy of a fence again, and fit it to the application. Raises `ConfigError` with every problem."""
    if fence.file is None:
        raise ConfigError(["the fence was not made from a file, so there is nothing to read again"])
    config, base = fence.file.read()
    kept = [f"{config.source}: {name} is kept by a running process; restart it" for name in _kept(fence.config, config)]
    if kept:
        raise ConfigError(kept)
    assembled, keys = assemble(config, base, fence.sign, fence.key_sources)
    assembled = msgspec.structs.replace(assembled, plugins=fence.plan.plugins)
    asks = fence.introspector
    if config.identity.introspection != fence.config.identity.introspection:
        asks = introspector(config.identity, base, config.source)
    plan = adopt(assembled, config, fence.listing)[0] if fence.listing is not None else assembled
    for fits in fence.fits:
        fits(plan, config.source)
    return Candidate(config=config, base=base, assembled=assembled, plan=plan, keys=keys, introspector=asks)


def _kept(now: Config, then: Config) -> Iterator[str]:
    """What differs of the things that are opened once, at the start."""
    for name in _KEPT:
        if getattr(now, name, None) != getattr(then, name, None):
            yield name
    for name in _KEPT_OF_RECEIPTS:
        if getattr(now.receipts, name) != getattr(then.receipts, name):
            yield f"receipts.{name}"
