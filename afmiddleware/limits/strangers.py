"""Callers that nobody knows: the wider blocks that their addresses lie in, and what is counted there.

Whoever has one IPv6 address has a whole block of them, so what counts by an IPv6 address also counts in its /56, with
four times its cap, and in its /48, with sixteen times. When there is no more room for single addresses, the narrowest
block that there is room for stands in for one, under the cap of one, which many share then.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.limits.keys import row_key
from afmiddleware.model.limit import Charge, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor

EVERYBODY: Final = "address:*"
"""The last block: everywhere."""

_PREFIX: Final = "address:"
_IPV4: Final = ((24, 0), (16, 0))
_IPV6: Final = ((56, 4), (48, 16))


@lru_cache(maxsize=4096)
def blocks(actor: str) -> tuple[tuple[str, int], ...]:
    """The actors that stand for the blocks around an address, the narrowest first; none for any other actor.

    Each comes with how many times the cap of one address its own is, 0 where nothing is counted in it beside that.
    """
    address = actor.removeprefix(_PREFIX)
    if address == actor or not address.endswith(("/32", "/64")):
        return ()
    if ":" in address:
        base = IPv6Network(address)
        return tuple((f"{_PREFIX}{base.supernet(new_prefix=bits)}", times) for bits, times in _IPV6)
    plain = IPv4Network(address)
    return tuple((f"{_PREFIX}{plain.supernet(new_prefix=bits)}", times) for bits, times in _IPV4)


def widened(
    charges: Iterable[Charge],
    actor: Actor,
    capability: str,
    event: ActionEvent | None,
) -> tuple[Charge, ...]:
    """The charges of an anonymous caller with the rows that may stand in for theirs, and those of the blocks around."""
    around = blocks(actor.id)
    if not around:
        return tuple(charges)
    places = [(replace(actor, id=name), times) for name, times in (*around, (EVERYBODY, 0))]
    own: list[Charge] = []
    wide: list[Charge] = []
    for charge in charges:
        limit = charge.limit
        keys = tuple([row_key(limit.per, one, capability, event, _address(one.id)) for one, _ in places])
        if keys[0] == charge.key:
            own.append(charge)
            continue
        own.append(Charge(limit, charge.key, charge.amount, keys))
        for key, (_, times) in zip(keys, places, strict=True):
            if times:
                wide.append(Charge(_times(limit, times), key, charge.amount))
    return (*own, *wide)


def _address(actor: str) -> Callable[[], str]:
    return lambda: actor.removeprefix(_PREFIX)


@lru_cache(maxsize=1024)
def _times(limit: Limit, times: int) -> Limit:
    # The interval of a paced rate is another one here, so it is another counter.
    cell = f"{limit.cell}x{times}" if limit.quota else limit.cell
    return replace(limit, cap=limit.cap * times, quota=limit.quota * times, cell=cell, wide=True)
