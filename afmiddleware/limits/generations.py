"""Which policy decides, of all processes that share a ledger: the arithmetic of its generations. Pure.

A policy goes by the digest of its file and lists. A running process that takes up another one supersedes the one it
had; a start supersedes nothing, so that old and new processes decide side by side until the old ones end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.errors import StalePolicyError
from afmiddleware.limits.rows import Generation
from afmiddleware.limits.stops import CONTROL
from afmiddleware.model.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Ping

KEPT: Final = 32
"""How many superseded digests are remembered."""


def generation_in(rows: Mapping[str, Row]) -> Generation | None:
    """The generation that is in force, if any policy was ever put in force."""
    row = rows.get(CONTROL)
    return row.more.generation if row is not None and row.more is not None else None


def superseded(generation: Generation | None, policy: str) -> bool:
    """Whether nothing may be decided by a policy."""
    if generation is None or generation.digest == policy:
        return False
    return generation.pinned or policy in generation.superseded


def stale(entry: Entry | Ping, rows: Mapping[str, Row]) -> StalePolicyError | None:
    """Why nothing is decided about an entry; `None` where its policy decides, or none is named."""
    found = generation_in(rows)
    if not entry.policy or found is None or found.digest == entry.policy or not superseded(found, entry.policy):
        return None
    observe = isinstance(entry, Entry) and entry.observe
    return StalePolicyError(entry.policy, found.number, found.digest, pinned=found.pinned, observe=observe)


def started(generation: Generation | None, policy: str, now: int) -> Generation:
    """The generation once a process has begun with a policy. What is pinned stays."""
    if generation is None:
        return Generation(1, policy, now)
    return generation if policy == generation.digest or generation.pinned else _raised(generation, policy, now)


def taken_up(generation: Generation | None, policy: str, before: str, now: int) -> Generation:
    """The generation once a running process has changed from the policy `before` to another.

    What is pinned moves only with a process that had it. A process whose policy is superseded itself may be behind the
    others by more than one file, so it brings back no policy that is superseded too.
    """
    if generation is None or policy == generation.digest:
        return _without(started(generation, policy, now), before)
    if generation.pinned and before != generation.digest:
        return generation
    if superseded(generation, before) and policy in generation.superseded:
        return generation
    return _without(_raised(generation, policy, now), before)


def activated(generation: Generation | None, policy: str, now: int) -> Generation:
    """The generation once the operator has made a policy the only one."""
    if generation is not None and policy != generation.digest:
        raised = _without(_raised(generation, policy, now), generation.digest)
    else:
        raised = generation or Generation(1, policy, now)
    return raised if raised.pinned else replace(raised, pinned=True)


def _raised(generation: Generation, policy: str, now: int) -> Generation:
    others = tuple(one for one in generation.superseded if one != policy)
    return replace(generation, number=generation.number + 1, digest=policy, since=now, superseded=others)


def _without(generation: Generation, before: str) -> Generation:
    known = generation.superseded
    return generation if before in known else replace(generation, superseded=(*known, before)[-KEPT:])
