"""Which row a limit counts in: one for each value of the keys it counts by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor


def row_key(per: str, actor: Actor, capability: str, event: ActionEvent | None, address: Callable[[], str]) -> str:
    """The key of the row that a limit `per` these keys (joined by `+`) counts an action in.

    A value that is absent has a row for each actor: what a caller leaves out neither opens a fresh budget nor stands in
    another caller's way. No two lists of values share a key, whatever they contain.
    """
    if per == "global":
        return per
    if per == "actor":
        return f"actor:{actor.id}"
    parts = [per]
    for name in per.split("+"):
        value = _value(name, actor, capability, event, address)
        parts.append(f"{len(value)}={value}" if value else f"{len(actor.id)}?{actor.id}")
    return ":".join(parts)


def _value(name: str, actor: Actor, capability: str, event: ActionEvent | None, address: Callable[[], str]) -> str:
    if name == "actor":
        return actor.id
    if name == "principal":
        return actor.on_behalf_of or actor.account
    if name == "session":
        # A session's name is only its caller's: another caller may have chosen the same.
        return f"{len(actor.id)}={actor.id}{actor.session}" if actor.session else ""
    if name == "address":
        return address()
    if name == "capability":
        return capability
    return str(getattr(actor if name == "tenant" else event, name, None) or "")
