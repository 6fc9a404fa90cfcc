"""What the reservations that a batch names lead to: rows, the names they claimed, and reservations they refund."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from afmiddleware.limits.rows import Hold


def keys_of_hold(hold: Hold) -> set[str]:
    """The keys of the rows that the end of a reservation may change."""
    keys = {f"actor:{hold.owner}"}
    keys.update(line.key for line in hold.lines)
    keys.update(slot.key for slot in hold.slots)
    return keys


def lacks(
    holds: Mapping[str, Hold],
    asked: Collection[str],
    claims: Collection[str],
) -> tuple[list[str], list[str]]:
    """The reservations and claimed names that have to be loaded too; for `asked` and `claims` was asked already."""
    refunded = {hold.refund.of for hold in holds.values() if hold.refund is not None and hold.refund.of}
    claimed = {hold.claim[0] for hold in holds.values() if hold.claim is not None}
    return sorted(refunded.difference(asked)), sorted(claimed.difference(claims))
