"""Action events as maps: how test cases, traces and tools write them down. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import AFError, GrammarError
from afmiddleware.grammar.capability import check_capability
from afmiddleware.grammar.quoting import quoted
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.risk import check_risk
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Collection

TEXTS: Final = ("resource", "recipient", "category", "network", "method", "route", "environment")
MEMBERS: Final = frozenset({"capability", "actor", "amount", "risk", "payload", "at", *TEXTS})
ACTOR_MEMBERS: Final = frozenset({"id", "tier", "scopes", "roles", "tenant", "depth", "account", "on_behalf_of"})


class CaseError(AFError, ValueError):
    """A map that is no event. The message says what is wrong and what to write.

    `place` is that of the case among several, from 1; 0 for none.
    """

    def __init__(self, text: str, place: int = 0) -> None:
        super().__init__(text)
        self.place = place


def read_event(value: Any, assets: Mapping[str, int], environment: str = "") -> tuple[ActionEvent, int | None]:
    """Make an event of a map, with its time in microseconds since the epoch, `None` where it names none.

    Members are `capability`, `actor` (an id, or a map of `id`, `tier`, `scopes`, `roles`, `tenant`, `depth`),
    `amount` (`12.50 USD`), `risk`, `payload`, `at` (RFC 3339) and the text fields of events. An actor whose tier is not
    said is anonymous where its id begins with `address:`, and has a token otherwise. Raises `CaseError`.
    """
    event = _known(value, MEMBERS, "an event")
    if "capability" not in event:
        raise CaseError("an event needs a capability; write one such as payments.transfer")
    try:
        texts = {name: _text(event[name], name) for name in TEXTS if event.get(name) is not None}
        texts.setdefault("environment", environment)
        amount = event.get("amount")
        risk = event.get("risk")
        payload = event.get("payload", {})
        if not isinstance(payload, Mapping):
            raise CaseError("payload is a map of the values that conditions read")
        return ActionEvent(
            capability=check_capability(_text(event["capability"], "capability")),
            actor=_actor(event.get("actor", "local:someone")),
            amount=None if amount is None else Money.parse(_text(amount, "amount"), assets),
            risk=None if risk is None else check_risk(_text(risk, "risk")),
            payload=payload,
            **texts,
        ), read_time(event["at"]) if event.get("at") is not None else None
    except (GrammarError, ValueError) as error:
        raise CaseError(str(error)) from None


def read_time(value: Any) -> int:
    """Read RFC 3339, `2026-11-23T12:00:00+01:00` or `...Z`, as microseconds since the epoch. Raises `CaseError`."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value, "at"))
    except ValueError:
        raise CaseError(f"{quoted(str(value))} is not a time; write one such as 2026-11-23T12:00:00Z") from None
    if at.tzinfo is None:
        raise CaseError(f"{quoted(str(value))} names no zone; end it with Z, or an offset such as +01:00")
    return (at - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(microseconds=1)


def _actor(value: Any) -> Actor:
    told = {"id": value} if isinstance(value, str) else _known(value, ACTOR_MEMBERS, "an actor")
    name = _text(told.get("id", ""), "actor.id")
    if not name:
        raise CaseError("an actor needs an id; write one such as key:acct_42")
    usual = "anonymous" if name.startswith("address:") else "token"
    depth = str(told.get("depth", 0))
    if not (depth.isascii() and depth.isdecimal()):
        raise CaseError("actor.depth is a whole number")
    return Actor(
        id=name,
        tier=Tier.parse(_text(told.get("tier", usual), "actor.tier")),
        scopes=_texts(told.get("scopes", ()), "actor.scopes"),
        roles=_texts(told.get("roles", ()), "actor.roles"),
        tenant=_text(told.get("tenant", ""), "actor.tenant"),
        account=_text(told.get("account", ""), "actor.account"),
        on_behalf_of=_text(told.get("on_behalf_of", ""), "actor.on_behalf_of"),
        depth=int(depth),
    )


def _known(value: Any, names: Collection[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CaseError(f"{what} is a map of {', '.join(sorted(names))}")
    unknown = sorted(str(name) for name in value if name not in names)
    if unknown:
        raise CaseError(f"{what} has no member {quoted(unknown[0])}; known are {', '.join(sorted(names))}")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise CaseError(f"{name} is a text")
    return value


def _texts(value: Any, name: str) -> frozenset[str]:
    if not isinstance(value, (list, tuple)):
        raise CaseError(f"{name} is a list of texts")
    return frozenset(_text(one, name) for one in value)
