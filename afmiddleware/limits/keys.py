"""Which row a limit counts in: one for each value of the keys it counts by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

_PART: Final = re.compile(r":([0-9]{1,9})([=?])", re.ASCII)


def row_key(per: str, actor: Actor, capability: str, event: ActionEvent | None, address: Callable[[], str]) -> str:
    """The key of the row that a limit `per` these keys (joined by `+`) counts an action in.

    A value that is absent has a row for each actor: what a caller leaves out neither opens a fresh budget nor stands in
    another caller's way. No two lists of values share a key, whatever they contain.
    """
    if per == "global":
        return per
    if per == "actor":
        return f"actor:{actor.id}"
    values = {name: _value(name, actor, capability, event, address) for name in per.split("+")}
    return named_key(per, values, actor.id)


def named_key(per: str, values: Mapping[str, str], actor: str = "") -> str:
    """The key of a row by the values it counts for, as `values_of` tells them; what is not among them is absent.

    `actor` is whose row it is then. Raises `ValueError` where that is needed and empty.
    """
    if per == "global":
        return per
    if per == "actor":
        return f"actor:{_needed(values.get(per) or actor)}"
    parts = [per]
    for name in per.split("+"):
        value = values.get(name) or (actor if name == "actor" else "")
        parts.append(f"{len(value)}={value}" if value else f"{len(_needed(actor))}?{actor}")
    return ":".join(parts)


def values_of(key: str, per: str) -> tuple[dict[str, str], str] | None:
    """For which values a row counts that a limit `per` these keys has, without what was absent, and whose it is then.

    `None` for a row that no such limit has.
    """
    if per == "global":
        return ({}, "") if key == per else None
    if per == "actor":
        actor = key.removeprefix("actor:")
        return ({"actor": actor}, "") if actor != key else None
    rest, found, whose = key.removeprefix(per), {}, ""
    for name in per.split("+"):
        part = _PART.match(rest)
        if part is None:
            return None
        end = part.end() + int(part[1])
        if end > len(rest):
            return None
        value, rest = rest[part.end() : end], rest[end:]
        if part[2] == "=":
            found[name] = value
        else:
            whose = value
    return None if rest or not key.startswith(per) else (found, whose)


def _needed(actor: str) -> str:
    if not actor:
        msg = "whose counter it is has to be said too"
        raise ValueError(msg)
    return actor


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
